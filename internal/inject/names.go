package inject

// The names that people write, and that the sidecar's part of a pod has.
const (
	prefix = "readthrough/"

	// InjectLabel asks for the sidecar, on a pod or a namespace.
	InjectLabel = prefix + "inject"
	// Enabled and Disabled are the values of InjectLabel. A pod's goes before its namespace's.
	Enabled  = "enabled"
	Disabled = "disabled"

	// InjectedLabel marks pods that have the sidecar, for selectors.
	InjectedLabel = prefix + "injected"
	// InjectedBy is the annotation with the version that put the sidecar in.
	InjectedBy = prefix + "injected-by"

	// envAnnotation is that of the setting env, which injection leaves in the pod: for containers that come later.
	envAnnotation = prefix + "env"

	// ContainerName is the sidecar's in every pod.
	ContainerName = "readthrough"
	// MetricsPort is the name of the port with /metrics.
	MetricsPort = "rt-metrics"

	// volumePrefix begins the names of the sidecar's volumes.
	volumePrefix = "readthrough-"

	// defaultContainer is the annotation that says which container kubectl means when none is named.
	defaultContainer = "kubectl.kubernetes.io/default-container"
	// safeToEvict is the annotation with the local volumes, separated by commas, that a cluster autoscaler may take a pod away from.
	safeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
	// mirror is the annotation of what the API server shows of a static pod, which is not its to change.
	mirror = "kubernetes.io/config.mirror"
)
