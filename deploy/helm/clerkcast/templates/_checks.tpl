{{/* Refuses values that must not be rendered, before anything is installed. */}}
{{- define "clerkcast.checkValues" -}}
{{- range $name, $value := omit .Values "global" -}}
{{- include "clerkcast.ensurePlainText" (dict "name" $name "text" (toString $value)) -}}
{{- include "clerkcast.ensureNoSecrets" (dict "name" $name "text" (toString $value)) -}}
{{- end -}}
{{- include "clerkcast.ensureStarts" . -}}
{{- include "clerkcast.ensureNames" . -}}
{{- include "clerkcast.ensureOwnKeys" . -}}
{{- include "clerkcast.ensureOnce" . -}}
{{- end -}}

{{/* YAML ends a line at some characters that TOML does not, and allows fewer. What follows such
     a character would be lost, or be YAML of its own. */}}
{{- define "clerkcast.ensurePlainText" -}}
{{- $lineEnds := `\r([^\n]|$)|[\x{2028}\x{2029}]` -}}
{{- $notInYaml := `[^\t\n\r\x20-\x7e\x{a0}-\x{d7ff}\x{e000}-\x{fefe}\x{ff00}-\x{fffd}\x{10000}-\x{10ffff}]` -}}
{{- if regexMatch (printf "%s|%s" $lineEnds $notInYaml) .text -}}
{{- fail (printf "%s has a character that YAML does not keep (a carriage return without a newline, U+0085, U+2028, U+2029, U+FEFF or a control character): remove it, or write it as an escape, in TOML as in \"\\u2028\"" .name) -}}
{{- end -}}
{{- end -}}

{{/* Objects other than Secrets are readable by many. The messages do not repeat the value. The
     patterns in values.schema.json let these texts pass, since Helm's message would repeat them. */}}
{{- define "clerkcast.ensureNoSecrets" -}}
{{- if regexMatch `whsec_[A-Za-z0-9+/]{8}|\bsigning_secrets["']?\s*=` .text -}}
{{- fail (printf "%s holds a signing secret, which would be readable outside of a Secret: put it in a Secret (kubectl create secret generic clerk --from-file=signing-secret), and write the Secret's name in signingSecret.existingSecret; [[sources]] in `config` name its keys in signing_secrets_file, as in [\"/run/secrets/clerk/signing-secret\"]" .name) -}}
{{- end -}}
{{- $login := `://[^\s"',/(]*(:[^\s"',(]*)?@|nats_url["']?\s*=[^#\n]*@` -}}
{{- if or (regexMatch $login .text) (and (eq .name "nats") (contains "@" .text)) -}}
{{- fail (printf "%s holds a URL with a user, password or token, which would be readable outside of a Secret: put the URLs of NATS in a Secret with the key nats.url, and write the Secret's name in nats.urlSecret; or leave them out of the URL, and name a Secret with the key nats.creds in nats.credentialsSecret" .name) -}}
{{- end -}}
{{- if regexMatch `-----BEGIN [A-Z ]*(JWT|SEED|PRIVATE KEY)-----` .text -}}
{{- fail (printf "%s holds credentials or a private key, which would be readable outside of a Secret: put them in a Secret; write its name in nats.credentialsSecret for NATS, else in extraVolumes" .name) -}}
{{- end -}}
{{- if regexMatch `\bcct_[A-Za-z0-9_-]{8}` .text -}}
{{- fail (printf "%s holds a subscriber's token, which would be readable outside of a Secret: write its token_hash instead, as `clerkcast token new` prints it" .name) -}}
{{- end -}}
{{- end -}}

{{/* What the gateway would refuse at its start, told before anything is installed. */}}
{{- define "clerkcast.ensureStarts" -}}
{{- $hasPrincipals := regexMatch "(?m)^\\s*(\\[\\[\\s*principals\\s*\\]\\]|principals\\s*=)" .Values.config -}}
{{- if not (or $hasPrincipals .Values.grpc.allowAnonymous) -}}
{{- fail (printf "%s:50051 is reachable from other machines, and no principals are configured: list [[principals]] in `config` (`clerkcast token new NAME` prints one), or set grpc.allowAnonymous to let every caller subscribe" .Values.bindAddress) -}}
{{- end -}}
{{- $hasSources := regexMatch "(?m)^\\s*(\\[\\[\\s*sources\\s*\\]\\]|sources\\s*=)" .Values.config -}}
{{- if not (or $hasSources .Values.signingSecret.existingSecret) -}}
{{- fail "no signing secret: name a Secret in signingSecret.existingSecret, or list [[sources]] in `config`" -}}
{{- end -}}
{{- if eq .Values.log "nats" -}}
{{- if and .Values.nats.urls .Values.nats.urlSecret -}}
{{- fail "nats.urls and nats.urlSecret are both set: leave one of them out" -}}
{{- else if not (or .Values.nats.urls .Values.nats.urlSecret) -}}
{{- fail "log nats needs servers: list them in nats.urls, or name a Secret in nats.urlSecret" -}}
{{- else if and .Values.nats.urlSecret .Values.nats.credentialsSecret -}}
{{- fail "nats.urlSecret holds a user or a token, and nats.credentialsSecret is another one: leave one of them out" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Helm lets a release have a name that a Service cannot have. With the longest suffix a name has
     to be at most 63 characters, and a StatefulSet's at most 52. */}}
{{- define "clerkcast.ensureNames" -}}
{{- $name := include "clerkcast.fullname" . -}}
{{- if not (regexMatch `^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$` $name) -}}
{{- fail (printf "%q cannot be the name of a Service: set fullnameOverride to at most 50 characters of a-z, 0-9 and -, beginning with a letter" $name) -}}
{{- end -}}
{{- end -}}

{{/* A key twice would be invalid YAML, or replace the chart's. */}}
{{- define "clerkcast.ensureOwnKeys" -}}
{{- $labels := include "clerkcast.labels" . | fromYaml -}}
{{- $annotations := dict "checksum/config" "" -}}
{{- $values := list
  (list "podLabels" .Values.podLabels $labels)
  (list "podAnnotations" .Values.podAnnotations $annotations)
  (list "serviceMonitor.labels" .Values.serviceMonitor.labels $labels)
  (list "prometheusRule.labels" .Values.prometheusRule.labels $labels)
-}}
{{- range $values -}}
{{- $name := index . 0 -}}
{{- $own := index . 2 -}}
{{- range $key, $_ := index . 1 -}}
{{- if hasKey $own $key -}}
{{- fail (printf "%s has %s, which the chart sets itself: leave it out, or write another key" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The API server refuses a name twice in a list, or takes one of the two. */}}
{{- define "clerkcast.ensureOnce" -}}
{{- $pod := (include "clerkcast.pod" . | fromYaml).spec -}}
{{- $container := first $pod.containers -}}
{{- $claims := ternary (list (dict "name" "data")) list (eq .Values.log "embedded") -}}
{{- $values := list
  (list "extraEnv" "name" $container.env)
  (list "extraVolumes" "name" (concat $claims $pod.volumes))
  (list "extraVolumeMounts" "mountPath" $container.volumeMounts)
-}}
{{- range $values -}}
{{- $value := index . 0 -}}
{{- $key := index . 1 -}}
{{- $seen := list -}}
{{- range index . 2 -}}
{{- $name := get . $key -}}
{{- if has $name $seen -}}
{{- fail (printf "%s has %s, which the chart or another entry sets: leave it out" $value $name) -}}
{{- end -}}
{{- $seen = append $seen $name -}}
{{- end -}}
{{- end -}}
{{- end -}}
