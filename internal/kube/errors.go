package kube

import (
	"errors"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StatusError is the API server's answer to a request that it did not carry out.
type StatusError struct {
	Method  string // of the request
	Path    string
	Code    int                 // of HTTP
	Reason  metav1.StatusReason // empty where the answer was no status of Kubernetes
	Message string              // as the server says it
	Right   string              // the right that is missing, such as "get secrets", where the request is forbidden
}

func (e *StatusError) Error() string {
	switch {
	case e.Right != "":
		return fmt.Sprintf("the service account may not %s: give it that right by a Role and its RoleBinding (%s)", e.Right, e.Message)
	case e.Code == http.StatusUnauthorized:
		return fmt.Sprintf("the API server does not accept the service account's token: %s", e.Message)
	}
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Code, e.Message)
}

// IsNotFound reports whether the object asked for does not exist.
func IsNotFound(err error) bool { return hasCode(err, http.StatusNotFound) }

// IsConflict reports whether the object has changed since it was read, so that nothing was written.
func IsConflict(err error) bool { return hasCode(err, http.StatusConflict) }

func hasCode(err error, code int) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Code == code
}
