local paused = obj.spec.paused == true
local read_only = obj.spec.readOnly == true
return {
  ["pause"] = { disabled = paused, iconClass = "fa fa-fw fa-pause" },
  ["resume"] = { disabled = not paused, iconClass = "fa fa-fw fa-play" },
  ["make-read-only"] = { disabled = read_only, iconClass = "fa fa-fw fa-lock" },
  ["make-writable"] = { disabled = not read_only, iconClass = "fa fa-fw fa-unlock" },
}
