-- Health of Windlass's resources. It asks in the order in which kstatus does, so that Argo CD and Flux agree; what
-- Argo CD alone knows is Suspended: nothing is wrong, and nobody is at work on it.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is(name, expected)
  return conditions[name] ~= nil and conditions[name].status == expected
end

if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "it is being deleted" }
end
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen this generation yet" }
end
if is("Reconciling", "True") then
  return { status = "Progressing", message = conditions.Reconciling.message }
end
if is("Stalled", "True") then
  return { status = "Degraded", message = conditions.Stalled.message }
end
-- A pause keeps what Git says from taking effect.
if is("Reconciling", "False") and conditions.Reconciling.reason == "Paused" then
  return { status = "Suspended", message = conditions.Reconciling.message }
end
if is("Ready", "True") then
  return { status = "Healthy", message = conditions.Ready.message }
end
-- Scaled to zero, for example.
if is("Ready", "False") and is("Reconciling", "False") then
  return { status = "Suspended", message = conditions.Ready.message }
end
return { status = "Progressing", message = "it is not ready yet" }
