{{- define "router.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "router.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "router.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "router.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "router.selector" -}}
app.kubernetes.io/name: {{ include "router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "router.labels" -}}
{{ include "router.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ollama-router
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "router.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "router.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The namespace whose EndpointSlices the router watches; nothing where it looks for none. */}}
{{- define "router.discovers" -}}
{{- with (default dict .Values.config).discovery -}}
{{- with .kubernetes -}}
{{- if .selector -}}{{- default $.Release.Namespace .namespace -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* How the kubelet asks: a router with a certificate of its own takes nothing else on its port. */}}
{{- define "router.scheme" -}}
{{- if (default dict (default dict .Values.config).tls).certificate -}}HTTPS{{- else -}}HTTP{{- end -}}
{{- end -}}

{{- define "router.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* More than one replica: on one SQLite file they cannot be. */}}
{{- define "router.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}yes{{- end -}}
{{- end -}}

{{- define "router.checks" -}}
{{- if and (include "router.several" .) (not .Values.database.existingSecret) -}}
{{- fail "several replicas need PostgreSQL: set database.existingSecret" -}}
{{- end -}}
{{- if and (include "router.several" .) (not .Values.coordination.existingSecret) -}}
{{- fail "several replicas need Redis or Valkey to count together: set coordination.existingSecret" -}}
{{- end -}}
{{- end -}}

{{/* What the file says, with the port and, from a Secret, where routers meet. */}}
{{- define "router.config" -}}
{{- $config := merge (dict "proxy_host" "0.0.0.0" "proxy_port" 11434) (deepCopy .Values.config) -}}
{{- if not (or $config.servers $config.external_hosts $config.discovery) -}}
{{- $_ := set $config "servers" (dict "ollama" (dict "host" "ollama")) -}}
{{- end -}}
{{- if .Values.coordination.existingSecret -}}
{{- $shared := merge (dict "url" "${OROUTER_COORDINATION_URL}") (default dict $config.coordination) -}}
{{- $_ := set $config "coordination" $shared -}}
{{- end -}}
{{ toYaml $config }}
{{- end -}}

{{- define "router.env" -}}
{{- if .Values.database.existingSecret }}
- name: OROUTER_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- else }}
- name: OROUTER_DATABASE_URL
  value: sqlite:////data/router.sqlite3
{{- end }}
{{- if .Values.coordination.existingSecret }}
- name: OROUTER_COORDINATION_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.coordination.existingSecret }}
      key: {{ .Values.coordination.key }}
{{- end }}
{{- if .Values.tokenKey.existingSecret }}
- name: OROUTER_TOKEN_KEY_FILE
  value: /run/secrets/ollama-router/token-key
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "router.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "router.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}
