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

{{- /* The parts beside the service have names of their own: its Service and policies must not choose their pods. */ -}}
{{- define "paramedic.part.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-{{ .part }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "paramedic.part.labels" -}}
{{ include "paramedic.part.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "paramedic.image" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "paramedic.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
