package inject

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Where the sidecar finds its files.
const (
	configDir  = "/etc/readthrough/config"
	secretsDir = "/etc/readthrough/secrets"
	tlsDir     = "/etc/readthrough/tls"
	workDir    = "/var/lib/readthrough"

	// stateDir is made by the program with mode 0700: workDir may be written by everybody, as an emptyDir is.
	stateDir = workDir + "/state"
)

// The variables of the configuration that originSecret and redisSecret give.
const (
	originVariable = "ORIGIN_URL"
	redisVariable  = "READTHROUGH_UPSTREAM_PASSWORD"
)

// The program's own variables that say what is asked again of a sidecar that stands in a pod.
const (
	configVariable = "READTHROUGH_CONFIG"
	listenVariable = "READTHROUGH_LISTEN"
	adminVariable  = "READTHROUGH_ADMIN"
	debugVariable  = "READTHROUGH_DEBUG"
)

// container is the sidecar, in a form that is not FormAuto.
func (s *Settings) container(form Form, pod *corev1.PodSpec) corev1.Container {
	c := corev1.Container{
		Name:            ContainerName,
		Image:           string(s.Image),
		ImagePullPolicy: s.ImagePullPolicy,
		Args:            []string{"run", "--state-dir", stateDir},
		Env:             s.environment(pod),
		Ports:           []corev1.ContainerPort{{Name: MetricsPort, ContainerPort: int32(s.AdminPort), Protocol: corev1.ProtocolTCP}},
		Resources:       s.resources(pod),
		VolumeMounts:    s.mounts(),
		SecurityContext: s.securityContext(),
		StartupProbe:    s.startupProbe(),
		LivenessProbe:   s.livenessProbe(),
		ReadinessProbe:  s.readinessProbe(),

		// The log's end says why a sidecar has not started; kubectl describe then shows it.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if form == FormNative {
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	} else {
		c.Lifecycle = &corev1.Lifecycle{PostStart: s.holdOthers()}
	}
	return c
}

// environment configures the program. These variables go before what the ConfigMap says about the same.
func (s *Settings) environment(pod *corev1.PodSpec) []corev1.EnvVar {
	var env []corev1.EnvVar
	set := func(name, value string) { env = append(env, corev1.EnvVar{Name: name, Value: value}) }
	own := func(name, path string) {
		env = append(env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: path},
		}})
	}
	set(configVariable, configDir+"/"+s.Config.Key)
	set(listenVariable, fmt.Sprintf("localhost:%d", s.Port))
	set(adminVariable, fmt.Sprintf(":%d", s.AdminPort))
	set(debugVariable, fmt.Sprintf("localhost:%d", s.DebugPort))
	set("READTHROUGH_SHUTDOWN_GRACE", shutdownGrace(pod.TerminationGracePeriodSeconds).String())
	// The file's may be longer than this grace, with which the program would not start; and only who is behind a Service has one.
	set("READTHROUGH_SHUTDOWN_DELAY", "0s")
	if s.LogLevel != "" {
		set("READTHROUGH_LOG_LEVEL", string(s.LogLevel))
	}
	if limit := capped(s.MemoryLimit, corev1.ResourceMemory, pod); !limit.IsZero() {
		set("GOMEMLIMIT", strconv.FormatInt(limit.Value()/4*3>>20, 10)+"MiB")
	}
	own("POD_NAME", "metadata.name")
	own("POD_NAMESPACE", "metadata.namespace")
	for _, v := range s.secretVariables() {
		set(v.Name+"_FILE", fmt.Sprintf("%s/%s/%s", secretsDir, v.Ref.Name, v.Ref.Key))
	}
	return env
}

// secretVariables are all that the sidecar reads from Secrets.
func (s *Settings) secretVariables() SecretVariables {
	var all SecretVariables
	if s.OriginSecret.Name != "" {
		all = append(all, SecretVariable{originVariable, s.OriginSecret})
	}
	if s.RedisSecret.Name != "" {
		all = append(all, SecretVariable{redisVariable, s.RedisSecret})
	}
	return append(all, s.Secrets...)
}

// answerTime is what the program takes at most, after its grace, to answer what is in flight; and a second for the way.
const answerTime = 6 * time.Second

// maxGrace is as good as no bound, and a duration that Go can hold.
const maxGrace = 365 * 24 * time.Hour

// shutdownGrace is how long clients are served on, so that the drain has ended before the kubelet kills. Where the pod has
// little time, half of it is for clients.
func shutdownGrace(seconds *int64) time.Duration {
	pod := corev1.DefaultTerminationGracePeriodSeconds * time.Second
	if seconds != nil {
		pod = time.Duration(min(*seconds, int64(maxGrace/time.Second))) * time.Second
	}
	return max(pod-answerTime, pod/2, 0)
}

// securityContext is what the Pod Security level restricted demands, and a file system that cannot be written.
func (s *Settings) securityContext() *corev1.SecurityContext {
	c := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		Privileged:               new(false),
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if s.RunAsUser != nil {
		c.RunAsUser, c.RunAsGroup = new(int64(*s.RunAsUser)), new(int64(*s.RunAsUser))
	}
	return c
}
