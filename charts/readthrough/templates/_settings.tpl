{{/* What the injector is told of sidecars, as YAML. A null that takes the place of a default is no value at all here. It has to reach the
injector, whose default would else be in force: a user as the null that it is, and all else that may be absent as nothing. */}}
{{- define "readthrough.settings" -}}
{{- $settings := omit .Values.sidecar "image" -}}
{{- range $key := list "imagePullSecret" "cpuRequest" "cpuLimit" "memoryRequest" "memoryLimit" "logLevel" "originSecret" "redisSecret" "tlsSecret" -}}
{{- $_ := set $settings $key (default "" (get $settings $key)) -}}
{{- end -}}
{{- range $key := list "env" "secrets" -}}
{{- $_ := set $settings $key (default dict (get $settings $key)) -}}
{{- end -}}
{{- if not (hasKey $settings "runAsUser") -}}
{{- $_ := set $settings "runAsUser" nil -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* Fails with what the injector would refuse, and the schema does not see: of the settings. */}}
{{- define "readthrough.checkSettings" -}}
{{- if lt (list .port .adminPort .debugPort | uniq | len) 3 -}}
{{- fail (printf "sidecar.port %v, sidecar.adminPort %v and sidecar.debugPort %v have to be three different ports" .port .adminPort .debugPort) -}}
{{- end -}}
{{- range $key := list "cpuRequest" "cpuLimit" "memoryRequest" "memoryLimit" -}}
{{- $quantity := get $ $key -}}
{{- if and $quantity (le (include "readthrough.quantity" $quantity | float64) 0.0) -}}
{{- fail (printf "sidecar.%s is %s: write more than nothing, or \"\" for none" $key $quantity) -}}
{{- end -}}
{{- end -}}
{{- if and .memoryLimit (lt (include "readthrough.quantity" .memoryLimit | float64) (include "readthrough.quantity" "32Mi" | float64)) -}}
{{- fail (printf "sidecar.memoryLimit is %s, with which the sidecar cannot run: write 32Mi or more, or \"\" for no limit" .memoryLimit) -}}
{{- end -}}
{{- range $resource := list "cpu" "memory" -}}
{{- $request := get $ (printf "%sRequest" $resource) -}}
{{- $limit := get $ (printf "%sLimit" $resource) -}}
{{- if and $request $limit (lt (include "readthrough.quantity" $limit | float64) (include "readthrough.quantity" $request | float64)) -}}
{{- fail (printf "sidecar.%sLimit is %s, less than sidecar.%sRequest, which is %s: raise the one or lower the other" $resource $limit $resource $request) -}}
{{- end -}}
{{- end -}}
{{- include "readthrough.checkSecrets" (list . "sidecar") -}}
{{- end -}}

{{/* A quantity such as 20m or 128Mi as a number. */}}
{{- define "readthrough.quantity" -}}
{{- $unit := regexFind "[a-zA-Z]*$" . -}}
{{- $units := dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- mulf (trimSuffix $unit . | float64) (get $units $unit) -}}
{{- end -}}
