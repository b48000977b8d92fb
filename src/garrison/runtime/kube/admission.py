"""May this object enter the cluster? Default: no. Pure: a review and what is known in, a ruling out.

Everything that starts a pod is judged: by the digest of each image, never by the name of a container, and by
the model it declares, which has to be signed, approved, owned and allowed in that namespace's tier.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from garrison.core.decision import Tier
from garrison.core.digest import Ref, is_digest, short
from garrison.core.errors import GarrisonError
from garrison.runtime.kube.hardening import judge_pod
from garrison.runtime.kube.review import Denial, Review, Ruling
from garrison.runtime.kube.shapes import (
    GROUPS,
    PodShape,
    containers,
    digest_of,
    mapping,
    pods,
    sequence,
    text,
)
from garrison.runtime.kube.words import (
    DIGEST,
    FETCH,
    FETCH_OPTIONS,
    LAUNCHER,
    MODEL,
    MOUNTS,
    NAMESPACE_PREFIX,
    RUN,
    RUN_OPTIONS,
)

SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease", "garrison-system"})
CONTROLLERS = frozenset(
    {
        "system:kube-controller-manager",
        *(
            f"system:serviceaccount:kube-system:{name}-controller"
            for name in (
                "deployment",
                "replicaset",
                "statefulset",
                "daemon-set",
                "job",
                "cronjob",
                "replication",
            )
        ),
    }
)
INNER_ISOLATION = frozenset({"pod", "landlock"})
_FILTERS = ("container.apparmor.security", "seccomp.security", "garrison.dev/")


@dataclass(frozen=True, slots=True)
class Approved:
    """A version that may be loaded now: its signatures, its place in the list, its owner were asked for."""

    ref: Ref
    digest: str
    tier: Tier
    key_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry says. `image` gives the name that a digest is pinned under, empty when it is not; `version`
    gives an approved version or raises the refusal that it deserves; `floor` the highest place in the approved list of
    what was admitted of a model (second) to a namespace (first)."""

    image: Callable[[str], str]
    version: Callable[[Ref], Approved]
    floor: Callable[[str, str], int] = lambda _namespace, _model: 0
    exempt: frozenset[str] = SYSTEM
    tiers: Mapping[str, Tier] = field(default_factory=dict)

    def tier_of(self, namespace: str) -> Tier | None:
        """The tier that a namespace is for; None when nobody said."""
        if namespace in self.tiers:
            return self.tiers[namespace]
        word = namespace.removeprefix(NAMESPACE_PREFIX) if namespace.startswith(NAMESPACE_PREFIX) else ""
        return Tier(word) if word in set(Tier) else None


def judge(review: Review, known: Known) -> Ruling:
    """Never raises: what is not understood is denied."""
    if review.operation == "DELETE":
        return Ruling(why="what is removed starts nothing")
    if review.kind == "Namespace":
        return Ruling(tuple(_namespace(review, known)), "a namespace that stays under admission")
    if review.namespace in known.exempt:
        return Ruling(why=f"{review.namespace} is exempt by the server's settings")
    if review.operation == "CONNECT":
        return Ruling((_connect(review),))
    if review.subresource == "ephemeralcontainers":
        return Ruling((_ephemeral(review.subresource),))
    if review.subresource == "scale" and review.kind == "Scale":
        return Ruling(why="more or fewer of what was admitted; each pod is asked about")
    if review.subresource == "status":
        return _status(review)
    if review.subresource not in ("", "resize") or review.api_version not in GROUPS.get(
        review.kind, frozenset()
    ):
        return Ruling((_unknown_kind(review),))
    if review.operation == "UPDATE" and _starts(review.document) == _starts(review.old):
        return Ruling(why="what it starts did not change")
    return _pods(review, known)


def _pods(review: Review, known: Known) -> Ruling:
    found = list(pods(review.document))
    denials: list[Denial] = []
    models: list[tuple[str, str, str, int]] = []
    if not found:
        denials.append(Denial("ADM-POD", "it names no pod", "spec", "give the pod that it starts"))
    for pod in found:
        denials += [
            Denial("ADM-POD", f"{one.rule_id}: {one.message}", one.where, one.fix) for one in judge_pod(pod)
        ]
        names = {where: known.image(digest_of(one.get("image"))) for _, one, where in containers(pod)}
        denials += _images(pod, names)
        version = _declared(pod, known)
        if isinstance(version, Denial):
            denials.append(version)
            continue
        models.append((str(version.ref), version.digest, version.key_id, version.place))
        denials += _rollback(review, pod, version, known)
        denials += _tier(review.namespace, pod, version, known)
        denials += _launchers(pod, names, version)
    return Ruling(tuple(denials), "signed, approved, pinned and closed", tuple(dict.fromkeys(models)))


def _images(pod: PodShape, names: Mapping[str, str]) -> Iterator[Denial]:
    for kind, container, where in containers(pod):
        if kind == "ephemeralContainers":
            yield _ephemeral(where)
        elif not names[where] and digest_of(container.get("image")):
            digest = digest_of(container.get("image"))
            yield Denial(
                "ADM-IMAGE",
                f"no image that this registry signed is pinned as {short(digest)}",
                f"{where}.image",
                "sign and pin it: garrison image sign oci:DIR --name NAME, then garrison image pin oci:DIR --as NAME",
            )
    for index, volume in enumerate(sequence(pod.spec.get("volumes"))):
        if mapping(volume).get("image"):
            yield Denial(
                "ADM-IMAGE",
                "files of another image would be mounted",
                f"{pod.where}.volumes[{index}].image",
                "let the launcher fetch the model: garrison k8s render writes it so",
            )


def _declared(pod: PodShape, known: Known) -> Approved | Denial:
    """The version that a pod says it serves, when the registry lets it."""
    annotations = mapping(pod.metadata.get("annotations"))
    where = f"annotation {MODEL}"
    name, digest = text(annotations.get(MODEL)), text(annotations.get(DIGEST))
    if not name:
        return Denial(
            "ADM-MODEL",
            "the pod does not say which model it serves, and nothing else runs in this namespace",
            where,
            "render it: garrison k8s render NAME@VERSION",
        )
    try:
        version = known.version(Ref.parse(name))
    except GarrisonError as error:
        return Denial(error.code, error.what, where, error.fix)
    if not is_digest(digest) or digest != version.digest:
        return Denial(
            "ADM-MODEL",
            f"{version.ref} is {short(version.digest)}, and the pod says {digest[:80]!a}",
            f"annotation {DIGEST}",
            f"render it again: garrison k8s render {version.ref}",
        )
    return version


def _tier(namespace: str, pod: PodShape, version: Approved, known: Known) -> Iterator[Denial]:
    tier = known.tier_of(namespace)
    if tier is None:
        yield Denial(
            "ADM-NAMESPACE",
            f"nobody said which tier the namespace {namespace[:63]!a} is for",
            "metadata.namespace",
            "use one of garrison k8s render --tier TIER, or name it in the setting admission_tiers",
        )
    elif version.tier.rank > tier.rank:
        yield Denial(
            "ADM-TIER",
            f"{version.ref} sees {version.tier.value} data, and {namespace} is for {tier.value}",
            pod.where,
            f"run it in {NAMESPACE_PREFIX}{version.tier.value}",
        )


def _rollback(review: Review, pod: PodShape, version: Approved, known: Known) -> Iterator[Denial]:
    """No version that was approved before one that was let in already, and none before the one it replaces.

    What the cluster's own controllers start was judged when somebody wrote it: an old pod may be moved or replaced.
    """
    if review.user in CONTROLLERS:
        return
    floor = max(
        [known.floor(review.namespace, version.ref.name), *_replaced(review.old, version.ref.name, known)]
    )
    if version.place < floor:
        yield Denial(
            "ADM-ROLLBACK",
            f"{version.ref} is number {version.place} on the approved list, and number {floor} of {version.ref.name} "
            f"was admitted to {review.namespace[:63]} already",
            f"{pod.where} annotation {MODEL}".strip(),
            f"if going back is meant, approve it anew: garrison unapprove {version.ref} --reason WHY, then "
            f"garrison approve {version.ref}",
        )


def _replaced(old: Mapping[str, Any], name: str, known: Known) -> Iterator[int]:
    """The places of that model's versions in the object that is changed; none of what is not approved any more."""
    for pod in pods(old):
        with contextlib.suppress(GarrisonError):
            ref = Ref.parse(text(mapping(pod.metadata.get("annotations")).get(MODEL)))
            if ref.name == name:
                yield known.version(ref).place


def _launchers(pod: PodShape, names: Mapping[str, str], version: Approved) -> Iterator[Denial]:
    """At least one container verifies and loads, and whatever runs that image does that and nothing else."""
    is_served = False
    for kind, container, where in containers(pod):
        if names[where] != LAUNCHER:
            continue
        expected, options = (FETCH, FETCH_OPTIONS) if kind == "initContainers" else (RUN, RUN_OPTIONS)
        is_served = is_served or kind == "containers"
        if tuple(sequence(container.get("command"))) != expected:
            yield Denial(
                "ADM-LAUNCHER",
                "the launcher is started as something else",
                f"{where}.command",
                f"set command: [{', '.join(expected)}]",
            )
        yield from _arguments(container, f"{where}.args", options, version)
        yield from _surroundings(container, where)
    if not is_served:
        yield Denial(
            "ADM-LAUNCHER",
            f"no container runs the image pinned as {LAUNCHER}, so nothing verifies what is loaded",
            f"{pod.where}.containers",
            "render it: garrison k8s render NAME@VERSION; pin the launcher: "
            f"garrison image pin oci:DIR --as {LAUNCHER}",
        )


def _arguments(
    container: Mapping[str, Any], where: str, options: Iterable[str], version: Approved
) -> Iterator[Denial]:
    args = [text(one) for one in sequence(container.get("args"))]
    given = dict(zip(args[::2], args[1::2], strict=False))
    wrong = [one for one in given if one not in options]
    if len(args) % 2 or len(given) != len(args) // 2 or wrong:
        yield Denial(
            "ADM-LAUNCHER",
            f"options that the launcher does not take here: {', '.join(wrong)[:80] or 'one is there twice'}",
            where,
            f"render it again: garrison k8s render {version.ref}",
        )
    for option, wanted in (("--as", str(version.ref)), ("--digest", version.digest)):
        if given.get(option) != wanted:
            yield Denial(
                "ADM-LAUNCHER",
                f"{option} is not {wanted}",
                where,
                f"render it again: garrison k8s render {version.ref}",
            )
    if given.get("--isolation", "pod") not in INNER_ISOLATION:
        yield Denial("ADM-LAUNCHER", "no such isolation in a pod", where, "set --isolation pod, or landlock")


def _surroundings(container: Mapping[str, Any], where: str) -> Iterator[Denial]:
    for name in ("env", "envFrom", "workingDir"):
        if container.get(name):
            yield Denial(
                "ADM-LAUNCHER",
                f"{name} could make it another program",
                f"{where}.{name}",
                f"remove {name}",
            )
    for index, given in enumerate(sequence(container.get("volumeMounts"))):
        mount = mapping(given)
        if mount.get("mountPath") not in MOUNTS.values() or mount.get("subPathExpr"):
            yield Denial(
                "ADM-LAUNCHER",
                f"a volume at {text(mount.get('mountPath'))[:60]!a} could hide its programs",
                f"{where}.volumeMounts[{index}]",
                f"mount at {', '.join(MOUNTS.values())} alone",
            )


def _namespace(review: Review, known: Known) -> Iterator[Denial]:
    """No label takes a namespace out of admission; the server's settings do. Those of models stay restricted."""
    name = review.name or text(mapping(review.document.get("metadata")).get("name"))
    labels = mapping(mapping(review.document.get("metadata")).get("labels"))
    if name in known.exempt or known.tier_of(name) is None or review.operation == "CONNECT":
        return
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        yield Denial(
            "ADM-NAMESPACE",
            f"{name[:63]} holds models and does not enforce the restricted Pod Security Standard",
            "metadata.labels",
            "add the label pod-security.kubernetes.io/enforce: restricted",
        )


def _status(review: Review) -> Ruling:
    if _starts(review.document) == _starts(review.old):
        return Ruling(why="what it starts did not change")
    return Ruling((_unknown_kind(review),))


def _starts(document: Mapping[str, Any]) -> list[Any]:
    """All that decides what runs; numbers, labels and what other controllers note do not."""
    return [
        (
            pod.way,
            pod.spec,
            sorted(
                (key, value)
                for key, value in mapping(pod.metadata.get("annotations")).items()
                if key.startswith(_FILTERS)
            ),
        )
        for pod in pods(document)
    ]


def _ephemeral(where: str) -> Denial:
    return Denial(
        "ADM-EPHEMERAL",
        "a container that is put into a running pod sees the model, its keys and its users' data",
        where,
        "leave it out; garrison audit list and the gateway's metrics show what the model does",
    )


def _connect(review: Review) -> Denial:
    return Denial(
        "ADM-CONNECT",
        f"{review.subresource or 'a connection'} into a pod goes round the gateway and the launcher",
        f"pods/{review.subresource}",
        "ask the model through the gateway: garrison ask NAME",
    )


def _unknown_kind(review: Review) -> Denial:
    shown = f"{review.api_version}/{review.kind} {review.subresource}".strip()[:120]
    return Denial(
        "ADM-KIND",
        f"{shown!a} is nothing that this release can judge",
        "kind",
        f"use one of {', '.join(sorted(GROUPS))}",
    )
