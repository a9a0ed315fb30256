{{/* A duration such as 1m30s in seconds, with what is below one. */}}
{{- define "readthrough.exactSeconds" -}}
{{- $units := dict "ns" 0.000000001 "us" 0.000001 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+[a-z]+" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $sum = addf $sum (mulf (trimSuffix $unit . | float64) (get $units $unit)) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* A duration in whole seconds, rounded up. */}}
{{- define "readthrough.seconds" -}}
{{- include "readthrough.exactSeconds" . | float64 | ceil | int64 -}}
{{- end -}}

{{/* Fails with durations that the injector, or cert-manager, would refuse. */}}
{{- define "readthrough.checkCertificates" -}}
{{- $own := include "readthrough.ownCertificates" . -}}
{{- with .Values.injector.certificates -}}
{{- $lifetime := include "readthrough.exactSeconds" .lifetime | float64 -}}
{{- if gt $lifetime 3153600000.0 -}}
{{- fail (printf "injector.certificates.lifetime %s is more than a century: write less, such as 2160h" .lifetime) -}}
{{- end -}}
{{- if $own -}}
{{- $settle := include "readthrough.exactSeconds" .settle | float64 -}}
{{- if lt $settle 1.0 -}}
{{- fail (printf "injector.certificates.settle %s is too short for API servers to see a change: write 1s or more" .settle) -}}
{{- end -}}
{{- /* A third of the lifetime is left to replace a certificate: the time to settle, and 15s for replicas to notice. */ -}}
{{- $least := mulf 3 (addf $settle 15) -}}
{{- if lt $lifetime $least -}}
{{- fail (printf "injector.certificates.lifetime %s leaves too little time to replace a certificate: write %vs or more, or a shorter injector.certificates.settle" .lifetime $least) -}}
{{- end -}}
{{- else if lt $lifetime 3600.0 -}}
{{- fail (printf "injector.certificates.lifetime %s is less than cert-manager allows: write 1h or more" .lifetime) -}}
{{- end -}}
{{- end -}}
{{- end -}}
