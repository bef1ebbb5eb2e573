-- Each new value of the annotation asks for one run. Argo CD's Lua has the clock of `os`, and that only by `require`.
local os = require("os")
local annotations = obj.metadata.annotations or {}
annotations["windlass.dev/run-requested-at"] = os.date("!%Y-%m-%dT%XZ")
obj.metadata.annotations = annotations
return obj
