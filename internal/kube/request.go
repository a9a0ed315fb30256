package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxBody bounds an answer. The API server stores no object of more than 1.5 MiB, which may be larger as JSON.
const maxBody = 8 << 20

// resource is one object of the API, and how a right on it is called.
type resource struct {
	group     string // empty for the core group
	version   string
	plural    string
	namespace string // empty for those of the cluster
	name      string
}

func (r resource) path() string {
	var b strings.Builder
	if r.group == "" {
		b.WriteString("/api/" + r.version)
	} else {
		b.WriteString("/apis/" + r.group + "/" + r.version)
	}
	if r.namespace != "" {
		b.WriteString("/namespaces/" + url.PathEscape(r.namespace))
	}
	b.WriteString("/" + r.plural + "/" + url.PathEscape(r.name))
	return b.String()
}

// validate refuses names that would lead to another path than that of the object: names come from annotations too.
func (r resource) validate() error {
	if r.name == "" {
		return fmt.Errorf("%s: no name given", r.plural) // it would be the list of all
	}
	for _, segment := range []string{r.namespace, r.name} {
		if wrong := content.IsPathSegmentName(segment); len(wrong) > 0 {
			return fmt.Errorf("%s: %q is not a name: it %s", r.plural, segment, strings.Join(wrong, ", "))
		}
	}
	return nil
}

// right is what an RBAC rule calls a request, such as "update secrets in namespace readthrough".
func (r resource) right(method string) string {
	verb := map[string]string{http.MethodGet: "get", http.MethodPut: "update", http.MethodPatch: "patch"}[method]
	right := verb + " " + r.plural
	if r.group != "" {
		right += "." + r.group
	}
	if r.namespace != "" {
		right += " in namespace " + r.namespace
	}
	return right
}

// get reads an object.
func get[T any](ctx context.Context, c *Client, r resource) (*T, error) {
	into := new(T)
	if err := c.onResource(ctx, http.MethodGet, r, "", nil, into); err != nil {
		return nil, err
	}
	return into, nil
}

// update writes an object that was read before, unless it has changed since, and gives it as it is now.
func update[T any](ctx context.Context, c *Client, r resource, object *T) (*T, error) {
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", r.plural, r.name, err)
	}
	into := new(T)
	if err := c.onResource(ctx, http.MethodPut, r, "application/json", body, into); err != nil {
		return nil, err
	}
	return into, nil
}

func (c *Client) onResource(ctx context.Context, method string, r resource, contentType string, body []byte, into any) error {
	if err := r.validate(); err != nil {
		return err
	}
	err := c.do(ctx, method, r.path(), contentType, body, into)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusForbidden {
		status.Right = r.right(method)
	}
	return err
}

// do makes one request. Where the server says that it did not carry it out, the error is a *StatusError.
func (c *Client) do(ctx context.Context, method, at, contentType string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base.String()+at, bytes.NewReader(body))
	if err != nil {
		return err
	}
	token, err := c.token.get()
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", c.userAgent)

	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the Kubernetes API: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: read the answer: %w", method, at, err)
	case len(answer) > maxBody:
		return fmt.Errorf("%s %s: the answer is larger than %d MiB", method, at, maxBody>>20)
	case response.StatusCode < 200 || response.StatusCode > 299:
		if response.StatusCode == http.StatusUnauthorized {
			c.token.forget()
		}
		return statusError(method, at, response.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s %s: the answer is not what it should be: %w", method, at, err)
	}
	return nil
}

func statusError(method, at string, code int, answer []byte) error {
	e := &StatusError{Method: method, Path: at, Code: code}
	var status metav1.Status
	if json.Unmarshal(answer, &status) == nil && status.Kind == "Status" {
		e.Reason, e.Message = status.Reason, status.Message
	}
	e.Message = cmp.Or(e.Message, firstLine(answer), http.StatusText(code), "no reason given")
	return e
}

// firstLine is what a proxy or a server in distress says, cut to what a log can bear.
func firstLine(answer []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(answer)), "\n")
	if len(line) > 200 {
		line = line[:200] + "…"
	}
	return strings.ToValidUTF8(line, "?")
}
