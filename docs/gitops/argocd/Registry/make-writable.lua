obj.spec.readOnly = false
return obj
