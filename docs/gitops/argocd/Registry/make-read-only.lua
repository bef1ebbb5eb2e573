obj.spec.readOnly = true
return obj
