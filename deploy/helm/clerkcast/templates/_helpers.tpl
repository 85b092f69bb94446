{{- define "clerkcast.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end -}}

{{/* Never cut, because two releases could then have one name: checkValues refuses what is too long. */}}
{{- define "clerkcast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "clerkcast.name" .) .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "clerkcast.name" .) -}}
{{- end -}}
{{- end -}}

{{- define "clerkcast.selector" -}}
app.kubernetes.io/name: {{ include "clerkcast.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "clerkcast.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "clerkcast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/* The pod of either log, without its volume for the log. */}}
{{- define "clerkcast.pod" -}}
metadata:
  labels:
    {{- include "clerkcast.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ .Values.config | sha256sum | quote }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Of these, 5 s let the load balancers notice, and up to 20 s end streams and webhooks.
  terminationGracePeriodSeconds: 30
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: clerkcast
      image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
      args: [serve, --config, /etc/clerkcast/config.toml]
      env:
        - name: CLERKCAST_HTTP_LISTEN
          value: {{ printf "%s:8080" .Values.bindAddress | quote }}
        - name: CLERKCAST_GRPC_LISTEN
          value: {{ printf "%s:50051" .Values.bindAddress | quote }}
        - name: CLERKCAST_ADMIN_LISTEN
          value: {{ printf "%s:9090" .Values.bindAddress | quote }}
        - name: CLERKCAST_LOG
          value: {{ .Values.log | quote }}
        {{- if eq .Values.log "embedded" }}
        - name: CLERKCAST_DATA_DIR
          value: /var/lib/clerkcast
        {{- else }}
        {{- if .Values.nats.urlSecret }}
        - name: CLERKCAST_NATS_URL_FILE
          value: /run/secrets/nats/nats.url
        {{- else }}
        - name: CLERKCAST_NATS_URL
          value: {{ join "," .Values.nats.urls | quote }}
        {{- end }}
        {{- if .Values.nats.credentialsSecret }}
        - name: CLERKCAST_NATS_CREDENTIALS
          value: /run/secrets/nats/nats.creds
        {{- end }}
        {{- end }}
        {{- if .Values.grpc.allowAnonymous }}
        - name: CLERKCAST_GRPC_ALLOW_ANONYMOUS
          value: "true"
        {{- end }}
        {{- if .Values.signingSecret.existingSecret }}
        - name: CLERK_WEBHOOK_SIGNING_SECRET_FILE
          value: {{ printf "/run/secrets/clerk/%s" .Values.signingSecret.key | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: webhooks
          containerPort: 8080
        - name: grpc
          containerPort: 50051
        - name: admin
          containerPort: 9090
      # A log that was not closed is recovered first, and a large stream is read to its end.
      startupProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 5
        failureThreshold: 120
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        failureThreshold: 2
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        preStop:
          sleep:
            seconds: 5
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/clerkcast
          readOnly: true
        # SQLite sorts there.
        - name: tmp
          mountPath: /tmp
        {{- if .Values.signingSecret.existingSecret }}
        - name: signing-secret
          mountPath: /run/secrets/clerk
          readOnly: true
        {{- end }}
        {{- if eq .Values.log "embedded" }}
        - name: data
          mountPath: /var/lib/clerkcast
        {{- else if or .Values.nats.urlSecret .Values.nats.credentialsSecret }}
        - name: nats-secret
          mountPath: /run/secrets/nats
          readOnly: true
        {{- end }}
        {{- if .Values.backup.volume }}
        - name: backup
          mountPath: /backup
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "clerkcast.fullname" . | quote }}
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
    {{- if .Values.signingSecret.existingSecret }}
    - name: signing-secret
      secret:
        secretName: {{ .Values.signingSecret.existingSecret | quote }}
        defaultMode: 0440
    {{- end }}
    {{- if eq .Values.log "nats" }}
    {{- with or .Values.nats.urlSecret .Values.nats.credentialsSecret }}
    - name: nats-secret
      secret:
        secretName: {{ . | quote }}
        defaultMode: 0440
    {{- end }}
    {{- end }}
    {{- with .Values.backup.volume }}
    - name: backup
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.log "nats" }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "clerkcast.selector" $ | nindent 10 }}
      # In an update, pods of the former revision do not count, because they go away.
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end -}}
