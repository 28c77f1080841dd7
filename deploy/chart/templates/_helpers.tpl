{{/* The services of the API in deploy/services.toml, by name, as JSON. */}}
{{- define "baseplate.catalog" -}}
{{- $catalog := dict -}}
{{- range $name, $entry := .Files.Get "services.toml" | fromToml -}}
{{-   if not $entry.operators }}{{ $_ := set $catalog $name $entry }}{{ end -}}
{{- end -}}
{{- toJson $catalog -}}
{{- end }}

{{/* The same, each with its values. */}}
{{- define "baseplate.services" -}}
{{- $catalog := include "baseplate.catalog" . | fromJson -}}
{{- range $name, $_ := .Values.services -}}
{{-   if not (hasKey $catalog $name) -}}
{{-     fail (printf "\n\nservices.%s: there is no such service; there are %s\n" $name (keys $catalog | sortAlpha | join ", ")) -}}
{{-   end -}}
{{- end -}}
{{- $services := dict -}}
{{- range $name, $entry := $catalog -}}
{{-   $values := index $.Values.services $name | default dict -}}
{{-   $service := mergeOverwrite (deepCopy $.Values.defaults) (deepCopy $values) -}}
{{-   range $setting, $_ := $service.settings -}}
{{-     if not (has $setting ($entry.settings | default list)) -}}
{{-       fail (printf "\n\nservices.%s.settings.%s: deploy/services.toml lists no such setting of %s\n" $name $setting $name) -}}
{{-     end -}}
{{-   end -}}
{{-   $versions := mul 2 ($service.autoscaling.enabled | ternary $service.autoscaling.maxReplicas $service.replicas) -}}
{{-   if and (eq $entry.store "postgres") (gt (int $versions) (int $.Values.stores.postgres.mostReplicas)) -}}
{{-     fail (printf "\n\nservices.%s: up to %d replicas run at once, because a release runs both versions; stores.postgres.mostReplicas is %d\n" $name (int $versions) (int $.Values.stores.postgres.mostReplicas)) -}}
{{-   end -}}
{{-   $_ := set $service "store" $entry.store -}}
{{-   $_ := set $service "calls" ($entry.calls | default list) -}}
{{-   $_ := set $service "keepsFiles" ($entry.keeps_files | default false) -}}
{{-   $_ := set $service "issuesTokens" (has "/.well-known/jwks.json" ($entry.well_known | default list)) -}}
{{-   $_ := set $service "mountsFiles" (and $service.keepsFiles (not $.Values.files.bucket.url)) -}}
{{-   $_ := set $service "urlsSecret" ($service.urlsSecret | default (ternary (printf "%s-urls" $name) "" (hasKey $service "urls"))) -}}
{{-   if and (not $.Values.stores.embedded) (not $service.urlsSecret) -}}
{{-     fail (printf "\n\nservices.%s: urls or urlsSecret must say where its %s and Valkey are, or stores.embedded be true\n" $name (eq $entry.store "mongo" | ternary "MongoDB" "PostgreSQL")) -}}
{{-   end -}}
{{- /* A migration before the installation would find no embedded stores and no volume, so the replicas run it. */ -}}
{{-   $_ := set $service "migratesInPod" (or $.Values.stores.embedded $service.mountsFiles) -}}
{{-   $_ := set $services $name $service -}}
{{- end -}}
{{- toJson $services -}}
{{- end }}

{{/* Labels. Takes (list $ "component"). */}}
{{- define "baseplate.selector" -}}
app.kubernetes.io/name: baseplate
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "baseplate.labels" -}}
{{ include "baseplate.selector" . }}
app.kubernetes.io/part-of: baseplate
app.kubernetes.io/version: {{ include "baseplate.tag" (index . 0) | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* Images. */}}
{{- define "baseplate.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The image that values name. Takes (list $ "name" "its tag"). */}}
{{- define "baseplate.image" -}}
{{- $root := index . 0 -}}
{{ with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}baseplate/{{ index . 1 }}:{{ index . 2 | default (include "baseplate.tag" $root) }}
{{- end }}

{{/* The image in service: that of a finished release, until values name another one than they did then. */}}
{{- define "baseplate.imageInService" -}}
{{- $root := index . 0 -}}
{{- $image := include "baseplate.image" . -}}
{{- $live := lookup "apps/v1" "Deployment" $root.Release.Namespace (index . 1) | default dict -}}
{{- $notes := dig "metadata" "annotations" dict $live -}}
{{- eq $image (index $notes "baseplate/released-over" | default "") | ternary (index $notes "baseplate/released-image" | default $image) $image -}}
{{- end }}

{{/* What every pod and container has (Pod Security "restricted"). Takes (list $ "user id"). */}}
{{- define "baseplate.pod" -}}
{{- $root := index . 0 -}}
automountServiceAccountToken: false
# The variables of a Service named `gateway` would replace the gateway's settings.
enableServiceLinks: false
# A DNS server that died with its node gets lookups until the cluster has noticed; the default is to wait 5 s for it.
dnsConfig:
  options: [{name: timeout, value: "1"}, {name: attempts, value: "4"}]
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{ range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 1 }}
  runAsGroup: {{ index . 1 }}
  {{- if ne (int (index . 1)) 101 }}
  # The gateway has none: it only reads the volume of files, which belongs to assets.
  fsGroup: {{ index . 1 }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "baseplate.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A lost node must not take all replicas of a component. Takes (list $ "component" "whether it mounts the files"). */}}
{{- define "baseplate.spread" -}}
{{- $pods := printf "{matchLabels: {app.kubernetes.io/instance: %s, app.kubernetes.io/component: %s}}" (index . 0).Release.Name (index . 1) -}}
{{- /* Pods of a volume that only one node can mount have no other node. Volumes of a cluster's default class often are of that kind, whatever their mode. */}}
{{- $volume := (index . 0).Values.files.volume -}}
{{- $shared := and (eq $volume.accessMode "ReadWriteMany") (or $volume.storageClass $volume.existingClaim) -}}
{{- $tied := and (index . 2) (not $shared) -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ $tied | ternary "ScheduleAnyway" "DoNotSchedule" }}
    # Nodes that take no pods, such as a cordoned one, do not count.
    nodeTaintsPolicy: Honor
    labelSelector: {{ $pods }}
    matchLabelKeys: [pod-template-hash]
# A constraint on zones would have the scheduler ignore nodes without that label, and with them the constraint above.
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          labelSelector: {{ $pods }}
{{- end }}

{{/* Resources of a job. */}}
{{- define "baseplate.jobResources" -}}
resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 512Mi}}
{{- end }}

{{/* A map as environment variables. */}}
{{- define "baseplate.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* Base URLs of all services, as commands take them. */}}
{{- define "baseplate.replicas" -}}
{{- $replicas := dict -}}
{{- range $name, $_ := .Files.Get "services.toml" | fromToml }}{{ $_ := set $replicas $name (list (printf "http://%s:8000" $name)) }}{{ end -}}
{{- toJson $replicas -}}
{{- end }}

{{/* Base URLs of the services of the API, as the dispatcher takes them. */}}
{{- define "baseplate.peers" -}}
{{- $peers := dict -}}
{{- range $name, $_ := include "baseplate.catalog" . | fromJson }}{{ $_ := set $peers $name (list (printf "http://%s:8000" $name)) }}{{ end -}}
{{- toJson $peers -}}
{{- end }}

{{/* The environment of a service's migration. Takes (list $ "name" service). */}}
{{- define "baseplate.storeEnvironment" -}}
{{- $root := index . 0 -}}
{{- $service := index . 2 -}}
{{- $env := dict -}}
{{- if $service.store }}{{ $_ := set $env (eq $service.store "mongo" | ternary "MONGO_URL_FILE" "DATABASE_URL_FILE") (printf "/run/secrets/%s" (eq $service.store "mongo" | ternary "mongo_url" "database_url")) }}{{ end -}}
{{- if $service.issuesTokens }}{{ $_ := set $env "JWT_KEYS_DIR" "/var/lib/jwt-keys" }}{{ end -}}
{{- if $service.mountsFiles }}{{ $_ := set $env "ASSETS_DIR" "/var/lib/files" }}{{ end -}}
{{- if and $service.keepsFiles (not $service.mountsFiles) -}}
{{-   $bucket := $root.Values.files.bucket -}}
{{-   $_ := set $env "ASSETS_STORE_URL" $bucket.url -}}
{{-   with $bucket.region }}{{ $_ := set $env "AWS_REGION" . }}{{ end -}}
{{-   with $bucket.endpoint }}{{ $_ := set $env "AWS_ENDPOINT_URL" . }}{{ end -}}
{{- end -}}
{{- if and $root.Values.stores.caSecret (not $root.Values.stores.embedded) }}{{ $_ := set $env "PGSSLROOTCERT" "/etc/stores/ca.crt" }}{{ end -}}
{{- toJson $env -}}
{{- end }}

{{/* The environment of a service. */}}
{{- define "baseplate.serviceEnvironment" -}}
{{- $root := index . 0 -}}
{{- $service := index . 2 -}}
{{- $env := include "baseplate.storeEnvironment" . | fromJson -}}
{{- $env = merge $env (dict
      "ENVIRONMENT" "production" "LOG_FORMAT" "json" "WEB_CONCURRENCY" (toString $service.workers)
      "VALKEY_URL_FILE" "/run/secrets/valkey_url" "FINGERPRINT_SECRET_FILE" "/run/secrets/fingerprint_secret"
      "SERVICE_KEYS_DIR" "/run/service-keys" "PEER_URLS" (include "baseplate.peers" $root) "GATEWAY_NETWORKS" "gateway-peers") -}}
{{- if eq $service.store "postgres" -}}
{{-   $env = merge $env (dict "DATABASE_CONNECTIONS" (toString $root.Values.stores.postgres.connections) "DATABASE_REPLICAS" (toString $root.Values.stores.postgres.mostReplicas)) -}}
{{- end -}}
{{- if $service.keepsFiles }}{{ $_ := set $env "LINK_SECRET_FILE" "/run/secrets/link_secret" }}{{ end -}}
{{- if $service.mountsFiles }}{{ $_ := set $env "ASSETS_X_ACCEL" "1" }}{{ end -}}
{{- if and $root.Values.console.enabled (ne (index . 1) "console") }}{{ $_ := set $env "CONSOLE_URL" "http://console:8000" }}{{ end -}}
{{- toJson (mergeOverwrite $env (deepCopy $root.Values.settings) ($service.settings | default dict)) -}}
{{- end }}

{{/* Variables from Secrets. */}}
{{- define "baseplate.envFrom" -}}
{{- $root := index . 0 -}}
{{- $service := index . 2 -}}
{{- $bucket := and $service.keepsFiles (not $service.mountsFiles) | ternary $root.Values.files.bucket.credentialsSecret "" -}}
{{- with compact (list $bucket ($service.settingsSecret | default "")) }}
envFrom: {{ range . }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}
{{- end }}

{{/* Volumes of a service and of its migration, and where they are mounted. */}}
{{- define "baseplate.volumes" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $service := index . 2 -}}
- {name: tmp, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret: {name: {{ $name }}-secrets}
      {{- with $service.urlsSecret }}
      - secret: {name: {{ . }}}
      {{- end }}
- {name: service-keys, secret: {secretName: {{ $name }}-keys, defaultMode: 0440}}
{{- if $service.issuesTokens }}
- {name: jwt-keys, secret: {secretName: jwt-keys, defaultMode: 0440}}
{{- end }}
{{- if $service.mountsFiles }}
- {name: files, persistentVolumeClaim: {claimName: {{ $root.Values.files.volume.existingClaim | default "files" }}}}
{{- end }}
{{- if and $root.Values.stores.caSecret (not $root.Values.stores.embedded) }}
- {name: stores-ca, secret: {secretName: {{ $root.Values.stores.caSecret }}}}
{{- end }}
{{- end }}

{{- define "baseplate.mounts" -}}
{{- $root := index . 0 -}}
{{- $service := index . 2 -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /run/secrets, readOnly: true}
- {name: service-keys, mountPath: /run/service-keys, readOnly: true}
{{- if $service.issuesTokens }}
- {name: jwt-keys, mountPath: /var/lib/jwt-keys, readOnly: true}
{{- end }}
{{- if $service.mountsFiles }}
- {name: files, mountPath: /var/lib/files}
{{- end }}
{{- if and $root.Values.stores.caSecret (not $root.Values.stores.embedded) }}
- {name: stores-ca, mountPath: /etc/stores, readOnly: true}
{{- end }}
{{- end }}

{{/* The migration of a service, as a container. Takes (list $ "name" service). */}}
{{- define "baseplate.migration" -}}
{{- $service := index . 2 -}}
name: migrate
image: {{ include "baseplate.imageInService" (list (index . 0) (index . 1) $service.tag) }}
{{ include "baseplate.container" (index . 0) }}
env:
  {{- include "baseplate.storeEnvironment" . | fromJson | include "baseplate.env" | nindent 2 }}
{{- include "baseplate.envFrom" . }}
volumeMounts:
  {{- include "baseplate.mounts" . | nindent 2 }}
{{ include "baseplate.jobResources" . }}
{{- end }}

{{/* The pod of a migration job. */}}
{{- define "baseplate.migrationPod" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $service := index . 2 -}}
metadata:
  labels:
    {{- include "baseplate.labels" (list $root (printf "%s-migrate" $name)) | nindent 4 }}
    baseplate/net-{{ $service.store }}: "true"
spec:
  restartPolicy: Never
  {{- include "baseplate.pod" (list $root 10001) | nindent 2 }}
  containers:
    - {{ include "baseplate.migration" . | nindent 6 | trim }}
      command: [python, -m, {{ $name }}_service.migrate]
  volumes:
    {{- include "baseplate.volumes" . | nindent 4 }}
{{- end }}

{{/* A job that reads Secrets as directories, runs a command on them, and writes changed files back. */}}
{{- define "baseplate.secretsJob" -}}
{{- $root := index . 0 -}}
{{- $job := index . 1 -}}
{{- $its := index . 2 -}}
backoffLimit: 4
template:
  metadata:
    labels: {{- include "baseplate.labels" (list $root $job) | nindent 6 }}
      baseplate/net-kubernetes: "true"
      {{- if ne $job "make-secrets" }}
      baseplate/net-services: "true"
      {{- end }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ $job }}
    {{- include "baseplate.pod" (list $root 10001) | replace "automountServiceAccountToken: false" "automountServiceAccountToken: true" | nindent 4 }}
    containers:
      - name: {{ $job }}
        image: {{ include "baseplate.imageInService" (list $root "user" (dig "user" "tag" "" $root.Values.services)) }}
        {{- include "baseplate.container" $root | nindent 8 }}
        command:
          - python
          - -m
          - servicekit.ops.secret_sync
          - --label=app.kubernetes.io/instance={{ $root.Release.Name }}
          - --label=app.kubernetes.io/managed-by=make-secrets
          {{- range $secret, $directory := $its.secrets }}
          - --secret={{ $secret }}={{ $directory }}
          {{- end }}
          - --
          - sh
          - -c
          - {{ $its.command | quote }}
        volumeMounts:
          - {name: memory, mountPath: /memory}
        {{- include "baseplate.jobResources" $root | nindent 8 }}
    volumes:
      - {name: memory, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
{{- end }}

{{- define "baseplate.gatewayEnvironment" -}}
{{- $env := dict "GATEWAY_RESOLVER" "system" "GATEWAY_PEERS" "gateway-ready" -}}
{{- if not .Values.files.bucket.url }}{{ $_ := set $env "GATEWAY_FILES_DIR" "/srv/files/objects" }}{{ end -}}
{{- if .Values.console.enabled }}{{ $_ := set $env "CONSOLE_URL" "http://console:8000" }}{{ end -}}
{{- toJson (mergeOverwrite $env (deepCopy .Values.settings) (deepCopy .Values.gateway.settings)) -}}
{{- end }}
