"""Kubernetes: the pages of what admission refuses and what cannot be rendered or checked."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "ADM-REVIEW": Code(
        "an admission review that has no single reading",
        """\
What came is not an AdmissionReview of admission.k8s.io/v1, is larger than
896 KiB, is nested too deeply, has a key twice, or says one thing in its request
and another in its object. Two readers could read it as two things, so it is
denied and nothing of it is looked at.

    kubectl apply -f FILE --dry-run=server -v=9

shows what an API server sends. A file of one's own is asked about with
`garrison admit < pod.json`, one object as JSON.
""",
    ),
    "ADM-POD": Code(
        "a pod that is more open than a model's may be",
        """\
The pod breaks a rule of the restricted Pod Security Standard, or one that goes
further: no token, no service links, a sandbox, bounded resources, no hooks.
The message names the rule, the place and the way to mend it.

    garrison k8s check FILE

names all of them at once, before the cluster is asked.
""",
    ),
    "ADM-IMAGE": Code(
        "an image that nobody pinned",
        """\
Every container's image is recognised by its digest. This one is not pinned in
the registry, or its name was pinned to another digest since. A container's name
and an image's tag decide nothing: anybody can choose them.

    garrison image sign oci:DIR --name NAME
    garrison image pin oci:DIR --as NAME

The launcher, which verifies and loads, is pinned as garrison-launcher.
""",
    ),
    "ADM-MODEL": Code(
        "a pod that does not say which model it serves",
        """\
In a protected namespace only pods of models run. Each carries the annotations
garrison.dev/model (NAME@VERSION) and garrison.dev/digest, which have to agree
with the registry.

    garrison k8s render NAME@VERSION

writes them.
""",
    ),
    "ADM-LAUNCHER": Code(
        "nothing verifies what this pod would load",
        """\
One container has to run the image pinned as garrison-launcher, as
`garrison k8s run`, with the name and digest of the approved version, without an
environment of the pod's and without volumes over its programs. The launcher
hashes the bytes that it loads and compares them with that digest.

    garrison k8s render NAME@VERSION
""",
    ),
    "ADM-TIER": Code(
        "a model in a namespace for less sensitive data",
        """\
The version's tier is above the tier of the namespace. Namespaces called
models-TIER are for that tier; the setting admission_tiers names others.
""",
    ),
    "ADM-NAMESPACE": Code(
        "a namespace that is not made for models",
        """\
Nobody said which tier the namespace is for, or it would no longer enforce the
restricted Pod Security Standard.

    garrison k8s render --tier internal

writes a namespace for a tier with everything that belongs to it. Namespaces
that are not asked about at all stand in the setting admission_exempt; no label
takes one out.
""",
    ),
    "ADM-EPHEMERAL": Code(
        "a container put into a running pod",
        """\
An ephemeral container sees the files, memory and traffic of the model beside
it. It is denied whatever its image is.
""",
    ),
    "ADM-CONNECT": Code(
        "a way into a pod that is not the gateway",
        """\
exec, attach, port-forward and the proxy of the API server reach a model without
the gateway's rules, limits and record. They are denied in protected namespaces.
""",
    ),
    "ADM-ROLLBACK": Code(
        "a version that was approved before the one that runs",
        """\
Of this model a version that was approved later was let into this namespace, or
is what the object holds now. An older one may have the weakness that the newer
one was made for. What the cluster's own controllers start again is let in: its
definition was judged when it was written.

When going back is meant, approve the older version anew; the newest approval
counts:

    garrison unapprove NAME@VERSION --reason WHY
    garrison approve NAME@VERSION
""",
    ),
    "ADM-KIND": Code(
        "an object that this release cannot judge",
        """\
The kind, its API version or the subresource is not one that admission knows.
What is not understood does not enter.
""",
    ),
    "K8S-SIZE": Code(
        "too much for one ConfigMap",
        """\
Keys and approved list travel to the pod in a ConfigMap, which holds 1 MiB.
Take versions that nothing runs any more off the list.
""",
    ),
    "K8S-FILE": Code(
        "not manifests that can be read",
        """\
`garrison k8s check` reads YAML (several documents) or JSON of at most 4 MiB, in
which no key stands twice. It follows no include and runs no template: render
Helm charts first, with helm template.
""",
    ),
    "K8S-OPTION": Code(
        "a value that a manifest cannot carry",
        """\
Image and source are addresses by digest, networks are CIDRs that are not
everything, names of secrets and issuers are lower-case DNS names.
""",
    ),
    "K8S-DIGEST": Code(
        "not the version that was admitted",
        """\
The launcher in a pod loads the one version whose digest stands in its
arguments, which admission compared with the registry. What was fetched and
verified has another one.

    garrison k8s render NAME@VERSION

writes the arguments of the version as it is published.
""",
    ),
    "K8S-TRUST": Code(
        "the keys and the list in the pod cannot be used",
        """\
The directory given with --trust lacks a file that `garrison k8s render` writes
into the ConfigMap: trust.json, environment, and the files of the approved list.
""",
    ),
    "K8S-BOUNDARY": Code(
        "no kernel of its own around this pod",
        """\
`--isolation pod` counts on the pod's runtime for the boundary: gVisor or a
virtual machine. The launcher looks for it and found the node's own kernel.

Set runtimeClassName: gvisor or kata, or use --isolation landlock.
""",
    ),
}
