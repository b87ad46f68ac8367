{{- define "samplerd.name" -}}
{{- if contains "samplerd" .Release.Name -}}
{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-samplerd" .Release.Name | trunc 53 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "samplerd.selector" -}}
app.kubernetes.io/name: samplerd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "samplerd.metadata" -}}
name: {{ include "samplerd.name" . }}
labels:
  {{- include "samplerd.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "samplerd.check-scaling" -}}
{{- if not (or .Values.autoscaling.waitingCalls .Values.autoscaling.cpuPercent) -}}
{{- fail "autoscaling.waitingCalls or autoscaling.cpuPercent must be more than 0" -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas must be autoscaling.maxReplicas at most" -}}
{{- end -}}
{{- end -}}

{{- define "samplerd.is-scaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}yes{{ end -}}
{{- end -}}
