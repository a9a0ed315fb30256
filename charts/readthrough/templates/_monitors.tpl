{{/* How a port is scraped: of (dict "port" NAME "values" MONITOR). */}}
{{- define "readthrough.scrape" -}}
port: {{ .port }}
path: /metrics
{{- with .values.interval }}
interval: {{ . }}
{{- end }}
{{- with .values.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- end -}}
