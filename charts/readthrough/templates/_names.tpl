{{- define "readthrough.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What the names of all objects begin with. It is short enough for the longest suffix, and fit for a Service, whose names are the
strictest. */}}
{{- define "readthrough.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Release.Name -}}
{{- if not (contains $name .Release.Name) -}}
{{- $full = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- $full = regexReplaceAll "-+$" (trunc 40 $full) "" -}}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $full) -}}
{{- fail (printf "the names of objects would begin with %q, and that of a Service has to have lower-case letters, digits and - only, of which the first is a letter: set fullnameOverride, or give the release another name" $full) -}}
{{- end -}}
{{- $full -}}
{{- end -}}
{{- end -}}

{{/* Labels by which Deployments and Services select pods: of (dict "root" $ "component" NAME). They never change. */}}
{{- define "readthrough.selector" -}}
app.kubernetes.io/name: {{ include "readthrough.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object: of (dict "root" $ "component" NAME). What people add never takes the place of what selects. */}}
{{- define "readthrough.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- merge (include "readthrough.selector" . | fromYaml) $labels (default dict .root.Values.commonLabels) | toYaml -}}
{{- end -}}

{{/* Labels of a pod: likewise. No pod of the chart is ever injected: the injector could not start without itself. */}}
{{- define "readthrough.podLabels" -}}
{{- $labels := dict
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "readthrough/inject" "disabled" -}}
{{- $more := default dict (index .root.Values .component).podLabels -}}
{{- merge (include "readthrough.selector" . | fromYaml) $labels $more (default dict .root.Values.commonLabels) | toYaml -}}
{{- end -}}

{{/* The image of the chart's own pods. */}}
{{- define "readthrough.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is required, since no image is published. Build and push your own by `make push IMAGE=REPOSITORY:TAG`, then add --set image.repository=REPOSITORY --set image.tag=TAG" -}}
{{- end -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "readthrough.serviceAccountName" -}}
{{- $values := index .root.Values .component "serviceAccount" -}}
{{- if $values.create -}}
{{- default (printf "%s-%s" (include "readthrough.fullname" .root) .component) $values.name -}}
{{- else -}}
{{- default "default" $values.name -}}
{{- end -}}
{{- end -}}

{{/* Whether the injector makes its own certificates: "true" or nothing. */}}
{{- define "readthrough.ownCertificates" -}}
{{- if eq .Values.injector.certificates.provider "self" }}true{{ end -}}
{{- end -}}
