package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"readthrough/internal/inject"
	"readthrough/internal/kube"
)

// configMapTimeout bounds the look at a pod's ConfigMap. API servers wait ten seconds for a webhook unless told otherwise.
const configMapTimeout = 2 * time.Second

// Injector decides what is done to a pod of the namespace. An error that is no *inject.Denial is a mistake of the program.
type Injector func(pod *corev1.Pod, namespace string) (inject.Decision, error)

// pods answers reviews of pods.
type pods struct {
	inject  Injector
	client  *kube.Client
	log     *zap.Logger
	metrics *Metrics
}

func (p *pods) judge(ctx context.Context, request *admissionv1.AdmissionRequest) verdict {
	switch {
	case request.Resource.Group != "" || request.Resource.Version != "v1" || request.Resource.Resource != "pods" || request.SubResource != "":
		return misdirected("readthrough injects into pods, and was sent %s", resourceName(request))
	case request.Operation != admissionv1.Create:
		return verdict{outcome: unchanged} // the containers of a pod that exists cannot be changed
	case request.Namespace == "":
		return misdirected("the review tells no namespace")
	}
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return misdirected("the review's object is no pod: %s", err)
	}
	decision, err := p.inject(&pod, request.Namespace)
	if err != nil {
		return p.refusal(err)
	}
	v := verdict{outcome: injected, warnings: decision.Warnings}
	switch {
	case decision.Skipped != "":
		v.outcome = skipped
		return v
	case len(decision.Patch) == 0:
		v.outcome = unchanged
		return v
	}
	denial, doubt := p.lookForConfig(ctx, request.Namespace, decision.Config)
	if denial != nil {
		return p.refusal(denial)
	}
	if doubt != "" {
		v.warnings = append(v.warnings, doubt)
	}
	if v.patch, err = json.Marshal(decision.Patch); err != nil {
		return p.refusal(err)
	}
	return v
}

func (p *pods) refusal(err error) verdict {
	if denial, ok := errors.AsType[*inject.Denial](err); ok {
		return deny("%s", denial.Message)
	}
	p.log.Error("no decision about a pod: a mistake in this program", zap.Error(err))
	return mistaken("readthrough: %s", err)
}

// lookForConfig denies a pod that would wait for its ConfigMap, without a word about why. Where the API does not answer, the
// pod is admitted, and who made it told of the doubt: its ConfigMap is most likely there.
func (p *pods) lookForConfig(ctx context.Context, namespace string, ref inject.ConfigRef) (denial *inject.Denial, doubt string) {
	if ref.Name == "" {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, configMapTimeout)
	defer cancel()
	cm, err := p.client.ConfigMap(ctx, namespace, ref.Name)
	if kube.IsNotFound(err) {
		return inject.MissingConfigMap(namespace, ref), ""
	}
	if err != nil {
		p.metrics.failed(forConfigMap)
		p.log.Error("a pod is injected without knowing whether its ConfigMap is there",
			zap.String("namespace", namespace), zap.String("configmap", ref.Name), zap.Error(err))
		return nil, fmt.Sprintf("readthrough could not look whether the ConfigMap %s is there: if the pod does not start, see kubectl describe pod", ref.Name)
	}
	if _, ok := cm.Data[ref.Key]; ok {
		return nil, ""
	}
	if _, ok := cm.BinaryData[ref.Key]; ok {
		return nil, ""
	}
	have := slices.Sorted(maps.Keys(cm.Data))
	return inject.MissingConfigKey(namespace, ref, slices.Concat(have, slices.Sorted(maps.Keys(cm.BinaryData)))), ""
}

func resourceName(request *admissionv1.AdmissionRequest) string {
	name := request.Resource.Resource
	if request.Resource.Group != "" {
		name += "." + request.Resource.Group
	}
	if request.SubResource != "" {
		name += "/" + request.SubResource
	}
	return name
}
