//go:build e2e

package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// world is what all scenarios share. Each has namespaces of its own besides.
type world struct {
	images
	stores  *stores
	release *release

	// resident is an application from before everything that is done to the release, and outsider one that uses the gateway. They must not
	// notice any of it.
	resident, outsider *resident
}

// TestKubernetes installs the chart once, and takes it through its life. Scenarios of one stage run side by side.
func TestKubernetes(t *testing.T) {
	t.Logf("%s", kubectl(t, "version"))
	removeLeftovers(t)
	w := &world{images: makeImages(t)}
	w.stores = newStores(t, w.images, "stores")
	home := newNamespace(t, "resident")
	apply(t, home, w.stores.secret())
	w.release = newRelease(t, w.images, w.stores, map[string]any{"namespace": home, "config": w.stores.configuration(userMap)})
	w.resident = newResident(t, home, w.appPod("inside", "serve", "user:1"))
	outside := w.appPod("outside", "serve", "user:2")
	w.throughGateway(outside, redisPassword)
	w.outsider = newResident(t, home, outside)

	t.Run("an unmodified application reads through", w.readsThrough) // alone, as it tells times
	t.Run("installed", func(t *testing.T) {
		w.sideBySide(t,
			scenario{"a changed ConfigMap is taken up, a bad one refused", w.changesConfiguration},
			scenario{"a value of 256 MiB", w.passesBigValues},
			scenario{"a Job completes", w.completesJobs},
			scenario{"Redis and PostgreSQL are gone", w.outlastsItsStores},
			scenario{"a namespace opts in, a pod out", w.injectsByNamespace},
			scenario{"an ordinary container", w.injectsOrdinaryContainers},
			scenario{"annotations", w.followsAnnotations},
			scenario{"a look at a sidecar by port-forward", w.showsItself},
			scenario{"the application ends first", w.endsAfterTheApplication},
			scenario{"what is wrong is said", w.deniesWithReasons},
			scenario{"an older sidecar", w.injectsOlderSidecars},
			scenario{"the gateway", w.servesByGateway},
			scenario{"helm test", w.testsItself},
		)
	})
	t.Run("an upgrade and new certificates under load", w.rotatesCertificates)
	w.resident.served(t)
	w.outsider.served(t)
	t.Run("failing open", func(t *testing.T) {
		w.release.apply(t, map[string]any{"injector": map[string]any{
			"failurePolicy": "Ignore", "validation": map[string]any{"enabled": false},
		}})
		t.Run("a sidecar restarts with a bad file", w.restartsWithBadConfiguration)
		t.Run("the injector is gone", w.startsWithoutInjector)
	})
	w.resident.served(t)
	t.Run("uninstalled", func(t *testing.T) {
		w.outsider.leaves(t)
		t.Run("nothing is left", w.uninstalls)
		removeRelease(t) // where that was not to be run
		w.sideBySide(t,
			scenario{"injection without a webhook", w.injectsByCommand},
			scenario{"every pod of the decision tests", w.acceptsGoldenPods},
		)
	})
	w.resident.served(t)
	t.Run("without helm", w.installsManifests)
}

// scenario is one thing to see on the cluster.
type scenario struct {
	name string
	run  func(*testing.T)
}

func (w *world) sideBySide(t *testing.T, all ...scenario) {
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}

// resident is an application that has been there all the time.
type resident struct {
	namespace string
	name      string // of its Deployment
	pod       string
	last      serving
}

func newResident(t *testing.T, namespace string, pod *corev1.Pod) *resident {
	t.Helper()
	apply(t, namespace, deployment(pod))
	r := &resident{namespace: namespace, name: pod.Name, pod: awaitPods(t, namespace, "app="+pod.Name)[0].Name}
	r.served(t)
	return r
}

// served fails the test if the application has met an error, a null or a restart since it started, or reads no more.
func (r *resident) served(t testing.TB) {
	t.Helper()
	now := servesOn(t, r.namespace, r.pod, serving{Reads: r.last.Reads})
	for _, c := range containers(object[corev1.Pod](t, "pod", "-n", r.namespace, r.pod)) {
		if c.RestartCount != 0 {
			t.Fatalf("container %s of %s has been restarted %d times", c.Name, r.pod, c.RestartCount)
		}
	}
	t.Logf("%s: %d reads and no error since it started, the slowest %d ms", r.pod, now.Reads, now.SlowestMS)
	r.last = now
}

// leaves ends the application, as the gateway serves its clients on for as long as it may.
func (r *resident) leaves(t testing.TB) {
	t.Helper()
	r.served(t)
	kubectl(t, "delete", "-n", r.namespace, "deployment/"+r.name)
}
