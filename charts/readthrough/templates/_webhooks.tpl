{{/* The other injectors of the cluster, one a line. Who installs a webhook may list them; `helm template` does not ask. */}}
{{- define "readthrough.otherInjectors" -}}
{{- $own := include "readthrough.fullname" . -}}
{{- $lines := list -}}
{{- range (lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" "").items -}}
{{- $injects := false -}}
{{- $namespace := "" -}}
{{- range .webhooks -}}
{{- if eq .name "pod.inject.readthrough" -}}
{{- $injects = true -}}
{{- $namespace = dig "service" "namespace" "" .clientConfig -}}
{{- end -}}
{{- end -}}
{{- if and $injects (ne .metadata.name $own) -}}
{{- $lines = append $lines (printf "     MutatingWebhookConfiguration %s, whose injector is in namespace %s" .metadata.name $namespace) -}}
{{- end -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end -}}

{{/* The trusted CA is filled in by who makes the certificates: the injector itself, or cert-manager. */}}
{{- define "readthrough.webhookMetadata" -}}
name: {{ include "readthrough.fullname" . }}
labels:
  {{- include "readthrough.labels" (dict "root" . "component" "injector") | nindent 2 }}
{{- if not (include "readthrough.ownCertificates" .) }}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "readthrough.fullname" . }}-injector
{{- end }}
{{- end -}}

{{/* What both ways to ask for a sidecar have in common. */}}
{{- define "readthrough.injectWebhook" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
    scope: Namespaced
clientConfig:
  service: {name: {{ include "readthrough.fullname" . }}-injector, namespace: {{ .Release.Namespace }}, path: /mutate, port: 443}
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
# A proxy that a mesh adds after us belongs before us: we are asked again, and move.
reinvocationPolicy: IfNeeded
failurePolicy: {{ .Values.injector.failurePolicy }}
timeoutSeconds: {{ .Values.injector.timeoutSeconds }}
{{- end -}}
