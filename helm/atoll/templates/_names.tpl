{{- define "atoll.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "atoll.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "atoll.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "atoll.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "atoll.selector" -}}
app.kubernetes.io/name: {{ include "atoll.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atoll.labels" -}}
{{ include "atoll.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "atoll.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "atoll.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atoll.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "atoll.secret" -}}
{{- default (include "atoll.fullname" .) .Values.secrets.existing -}}
{{- end -}}

{{/* "true" when several gateways may run: the catalog is not in one's own volume, and the deployment exists. */}}
{{- define "atoll.many" -}}
{{- if and .Values.postgres.secret (not .Values.firstStart) -}}true{{- end -}}
{{- end -}}

{{- define "atoll.scaled" -}}
{{- if and (include "atoll.many" .) .Values.autoscaling.enabled -}}true{{- end -}}
{{- end -}}

{{- define "atoll.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* The check of one of our health pages: (list . "live") or (list . "ready"). */}}
{{- define "atoll.probe" -}}
httpGet:
  path: /-/health/{{ index . 1 }}
  port: s3
  scheme: {{ ternary "HTTPS" "HTTP" (ne (index . 0).Values.tls.secret "") }}
{{- end -}}
