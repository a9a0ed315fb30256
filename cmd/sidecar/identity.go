package main

import (
	"cmp"
	"os"
	"strings"
)

// namespaceFile is where Kubernetes tells a container its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// clientName is readthrough/<namespace>/<pod>, the name of our connections in Redis and PostgreSQL, or as much of it as is
// known. POD_NAMESPACE and POD_NAME come from the downward API; without them the service account's folder tells
// the namespace, and the host name is the pod's.
func clientName() string {
	namespace := podNamespace()
	if namespace == "" {
		return nameOf("readthrough", os.Getenv("POD_NAME"))
	}
	return nameOf("readthrough", namespace, cmp.Or(os.Getenv("POD_NAME"), os.Getenv("HOSTNAME")))
}

// podNamespace is the namespace that we run in; empty outside Kubernetes.
func podNamespace() string {
	if namespace := os.Getenv("POD_NAMESPACE"); namespace != "" {
		return namespace
	}
	content, _ := os.ReadFile(namespaceFile) // absent outside Kubernetes
	return strings.TrimSpace(string(content))
}

// nameOf joins the parts that are known. Redis takes no blanks or control characters in a client's name.
func nameOf(parts ...string) string {
	var known []string
	for _, p := range parts {
		p = strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return -1
			}
			return r
		}, p)
		if p != "" {
			known = append(known, p)
		}
	}
	return strings.Join(known, "/")
}
