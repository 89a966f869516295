{{- define "paramedic.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "paramedic-paramedic" "paramedic" | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "paramedic.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "paramedic.labels" -}}
{{ include "paramedic.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "paramedic.secret" -}}
{{- .Values.existingSecret | default (include "paramedic.name" .) -}}
{{- end -}}
