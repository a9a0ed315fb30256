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
