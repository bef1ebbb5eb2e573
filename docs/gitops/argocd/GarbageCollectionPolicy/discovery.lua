local suspended = obj.spec.suspend == true
return {
  ["run"] = { iconClass = "fa fa-fw fa-broom" },
  ["suspend"] = { disabled = suspended, iconClass = "fa fa-fw fa-pause" },
  ["resume"] = { disabled = not suspended, iconClass = "fa fa-fw fa-play" },
}
