package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Settings are what an injected sidecar gets. The chart's values `sidecar:` give them, and each may be changed by an
// annotation of the pod.
//
// The struct is the one place where a setting is declared. `setting` is its key in YAML; the annotation is the same word in
// kebab case. `default` is the text that an absent setting stands for, `oneof` lists the words it takes, `key` is the key
// that a reference without one means, and `text` is what documents say. What the type is decides how text is read: see
// [readers].
type Settings struct {
	Image           Image             `setting:"image" text:"the sidecar's image; required"`
	ImagePullPolicy corev1.PullPolicy `setting:"imagePullPolicy" default:"IfNotPresent" oneof:"Always|IfNotPresent|Never" text:"when the image is pulled"`
	ImagePullSecret Name              `setting:"imagePullSecret" text:"a Secret of the pod's namespace to pull the image with; it is added to those of the pod"`

	Config ConfigRef `setting:"config" default:"readthrough" key:"readthrough.yaml" text:"the ConfigMap with the configuration, NAME or NAME/KEY, in the pod's namespace"`

	Port      Port `setting:"port" default:"6380" text:"where the application finds Redis, on localhost"`
	AdminPort Port `setting:"adminPort" default:"6381" text:"probes and /metrics"`
	DebugPort Port `setting:"debugPort" default:"6382" text:"/status, explain and profiles, on localhost"`

	Form Form `setting:"form" default:"auto" oneof:"auto|native|ordinary" text:"native is an init container that stays (Kubernetes 1.29), ordinary a container beside the others; auto is native where the cluster has it"`

	CPURequest    resource.Quantity `setting:"cpuRequest" default:"20m" text:"CPU that is reserved; empty for none"`
	CPULimit      resource.Quantity `setting:"cpuLimit" text:"CPU that it may take; empty for no limit"`
	MemoryRequest resource.Quantity `setting:"memoryRequest" default:"32Mi" text:"memory that is reserved; empty for none"`
	MemoryLimit   resource.Quantity `setting:"memoryLimit" default:"128Mi" text:"memory that it may take, 32Mi or more; GOMEMLIMIT is three quarters of it; empty for no limit"`

	LogLevel LogLevel `setting:"logLevel" oneof:"debug|info|warn|error" text:"what is logged; empty for what the configuration says"`

	Env          Variables       `setting:"env" text:"variables for the application's containers, such as REDIS_URL=redis://localhost:6380; as an annotation NAME=VALUE,NAME=VALUE, where a comma within a value is \\,"`
	OriginSecret SecretRef       `setting:"originSecret" key:"url" text:"the Secret with the database's URL, NAME or NAME/KEY: what ${ORIGIN_URL} in the configuration stands for"`
	RedisSecret  SecretRef       `setting:"redisSecret" key:"password" text:"the Secret with the password of Redis, NAME or NAME/KEY"`
	TLSSecret    Name            `setting:"tlsSecret" text:"a Secret whose files the configuration finds in /etc/readthrough/tls, such as ca.crt, tls.crt and tls.key"`
	Secrets      SecretVariables `setting:"secrets" text:"more Secrets, each with the variable that the configuration names as ${VAR}; as an annotation VAR=NAME/KEY,VAR=NAME/KEY"`

	RunAsUser *UserID `setting:"runAsUser" default:"65532" text:"the user and group that it runs as; none leaves that to the platform, as OpenShift wants it"`
}

// DefaultSettings are those where nothing is said. They have no image.
func DefaultSettings() Settings {
	var s Settings
	for _, o := range options {
		if o.fallback == "" {
			continue
		}
		if err := o.set(&s, o.fallback); err != nil {
			panic("inject: the default of " + o.key + " " + err.Error())
		}
	}
	return s
}

// Setting describes one of the [Settings] for documents.
type Setting struct {
	Key        string // in YAML
	Annotation string // of a pod
	Default    string // as it would be written; empty for none
	Text       string
}

// Describe lists the settings in the order of their declaration.
func Describe() []Setting {
	all := make([]Setting, len(options))
	for i, o := range options {
		all[i] = Setting{Key: o.key, Annotation: o.annotation(), Default: o.fallback, Text: o.text}
	}
	return all
}
