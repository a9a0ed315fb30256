package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Probes run the program in the container: a mesh that redirects HTTP probes, or wants mutual TLS for them, is not in the way.
// They ask the admin port that the sidecar was injected with, whatever the configuration says meanwhile.

// startupProbe ends the wait for the sidecar as soon as it serves: it asks until then, for five seconds each time, so that
// the application is not held back for the rest of a period. It waits for neither Redis nor the database.
func (s *Settings) startupProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:   s.ask("startup", "--wait", "5s"),
		TimeoutSeconds: 6, PeriodSeconds: 1, FailureThreshold: 30,
	}
}

// livenessProbe has the sidecar restarted when it has not answered for half a minute.
func (s *Settings) livenessProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:   s.ask("live", "--timeout", "4s"),
		TimeoutSeconds: 5, PeriodSeconds: 10, FailureThreshold: 3,
	}
}

// readinessProbe counts for the pod's readiness: it turns off in a drain, so that the pod leaves its Services.
func (s *Settings) readinessProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:   s.ask("ready", "--timeout", "2s"),
		TimeoutSeconds: 3, PeriodSeconds: 5, FailureThreshold: 3,
	}
}

// holdOthers keeps the containers behind an ordinary sidecar from being started before it serves.
func (s *Settings) holdOthers() *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: s.ask("startup", "--wait", "10s").Exec}
}

func (s *Settings) ask(probe string, flags ...string) corev1.ProbeHandler {
	command := append([]string{"/sidecar", "probe", probe, "--admin", fmt.Sprintf("localhost:%d", s.AdminPort)}, flags...)
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}
}
