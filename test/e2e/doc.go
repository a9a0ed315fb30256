// Package e2e proves the whole on a real Kubernetes, whichever KUBECONFIG names: the chart is installed, an application that knows only
// localhost:6380 is injected, and then things are changed and broken around it. "make e2e" runs it; with the tag e2e alone, since
// it needs a cluster and a way to get images there. CONTRIBUTING.md says how to name both.
package e2e
