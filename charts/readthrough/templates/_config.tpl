{{/* A configuration as text: of (dict "config" YAML-OR-TEXT "at" WHERE-IT-STANDS). It fails with what is obviously wrong; the rest is
found by the program, which checks it whole. */}}
{{- define "readthrough.config" -}}
{{- $text := "" -}}
{{- if kindIs "string" .config -}}
{{- $text = .config | trimSuffix "\n" -}}
{{- else -}}
{{- $text = toYaml .config -}}
{{- end -}}
{{- $parsed := fromYaml $text -}}
{{- if hasKey $parsed "Error" -}}
{{- fail (printf "%s is not a YAML mapping: %s" .at (get $parsed "Error")) -}}
{{- end -}}
{{- if ne (toString (get $parsed "apiVersion")) "readthrough/v1" -}}
{{- fail (printf "%s has to begin with `apiVersion: readthrough/v1`" .at) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* NAME of `NAME` or `NAME/KEY`. */}}
{{- define "readthrough.ref.name" -}}
{{- splitList "/" . | first -}}
{{- end -}}

{{/* KEY of `NAME/KEY`: of (list REF DEFAULT). */}}
{{- define "readthrough.ref.key" -}}
{{- $parts := splitList "/" (first .) -}}
{{- if gt (len $parts) 1 }}{{ last $parts }}{{ else }}{{ last . }}{{ end -}}
{{- end -}}

{{/* The key in which a pod that names a ConfigMap looks for its configuration: of (dict "root" $ "name" NAME). Who names none gets the name
and the key of sidecar.config. */}}
{{- define "readthrough.configs.key" -}}
{{- $ref := .root.Values.sidecar.config -}}
{{- if eq .name (include "readthrough.ref.name" $ref) }}{{ include "readthrough.ref.key" (list $ref "readthrough.yaml") }}{{ else }}readthrough.yaml{{ end -}}
{{- end -}}

{{/* The gateway's ConfigMap as NAME/KEY: the chart's own, or that of gateway.configMap. One that `configs` renders has the key that it
has there. */}}
{{- define "readthrough.gateway.configMap" -}}
{{- $ref := default (printf "%s-gateway" (include "readthrough.fullname" .)) .Values.gateway.configMap -}}
{{- $name := include "readthrough.ref.name" $ref -}}
{{- $key := include "readthrough.ref.key" (list $ref "readthrough.yaml") -}}
{{- range $i, $entry := .Values.configs -}}
{{- if and (eq $entry.namespace $.Release.Namespace) (eq $name (default (include "readthrough.ref.name" $.Values.sidecar.config) $entry.name)) -}}
{{- $rendered := include "readthrough.configs.key" (dict "root" $ "name" $name) -}}
{{- if and (contains "/" $ref) (ne $key $rendered) -}}
{{- fail (printf "gateway.configMap is %s, and configs[%d] renders that ConfigMap with the key %s: write %s" $ref $i $rendered $name) -}}
{{- end -}}
{{- $key = $rendered -}}
{{- end -}}
{{- end -}}
{{- printf "%s/%s" $name $key -}}
{{- end -}}

{{/* Fails where a variable is given by `secrets` and by a setting of its own: of (list VALUES WHERE-THEY-STAND). */}}
{{- define "readthrough.checkSecrets" -}}
{{- $values := first . -}}
{{- $at := last . -}}
{{- range $setting, $variable := dict "originSecret" "ORIGIN_URL" "redisSecret" "READTHROUGH_UPSTREAM_PASSWORD" -}}
{{- if and (get $values $setting) (hasKey (default dict $values.secrets) $variable) -}}
{{- fail (printf "%s.secrets.%s is what %s.%s gives too: keep one" $at $variable $at $setting) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The gateway's secrets as a YAML mapping from variables to NAME/KEY. */}}
{{- define "readthrough.gateway.secrets" -}}
{{- include "readthrough.checkSecrets" (list .Values.gateway "gateway") -}}
{{- $secrets := dict -}}
{{- range $variable, $ref := .Values.gateway.secrets -}}
{{- $_ := set $secrets (printf "%s_FILE" $variable) $ref -}}
{{- end -}}
{{- with .Values.gateway.originSecret -}}
{{- $_ := set $secrets "ORIGIN_URL_FILE" (printf "%s/%s" (include "readthrough.ref.name" .) (include "readthrough.ref.key" (list . "url"))) -}}
{{- end -}}
{{- with .Values.gateway.redisSecret -}}
{{- $_ := set $secrets "READTHROUGH_UPSTREAM_PASSWORD_FILE" (printf "%s/%s" (include "readthrough.ref.name" .) (include "readthrough.ref.key" (list . "password"))) -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{/* Whether the cluster and the settings give a Job a sidecar, as the test of injection needs it: "true" or nothing. */}}
{{- define "readthrough.nativeSidecars" -}}
{{- if or (eq .Values.sidecar.form "native") (and (eq .Values.sidecar.form "auto") (semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version)) }}true{{ end -}}
{{- end -}}

{{/* The gateway's configuration as text. */}}
{{- define "readthrough.gateway.config" -}}
{{- $text := include "readthrough.config" (dict "config" .Values.gateway.config "at" "gateway.config") -}}
{{- $parsed := fromYaml $text -}}
{{- range list "listen" "admin" "debug" "requireAuth" "allowUnauthenticated" "shutdownDelay" "shutdownGrace" -}}
{{- if hasKey $parsed . -}}
{{- fail (printf "gateway.config.%s is the chart's to set: remove it. The gateway listens on all addresses, and its clients have to authenticate" .) -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}
