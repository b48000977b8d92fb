"""The gateway, HTTP and what texts carry: the pages of their codes."""

from __future__ import annotations

from garrison.core.codes.code import Code

CODES: dict[str, Code] = {
    "GW-CONFIG": Code(
        "the gateway worker's configuration is not usable",
        """\
A worker was started with a configuration that has an unknown, missing or
wrong-typed key. It serves nothing rather than guess.

Start workers with `garrison up`, which writes the configuration itself.
""",
    ),
    "GW-TLS": Code(
        "no usable certificate for the gateway",
        """\
The worker was not given a PEM chain and key that fit together, so it cannot
speak TLS 1.3 and does not listen.

Start workers with `garrison up`: it makes both in memory for each start.
""",
    ),
    "GW-PLAIN": Code(
        "plain HTTP is for loopback only",
        """\
A worker without a certificate was told to listen on an address that other
machines reach. Tokens and prompts would cross the network in the clear.

Give the worker a certificate, as `garrison up` does.
""",
    ),
    "GW-SNAPSHOT": Code(
        "a configuration snapshot was not accepted",
        """\
The snapshot file is signed but is not one this version reads, or it is older
than the one being served. The worker goes on with the last good one until
that expires.

Run one version of Garrison everywhere. An older file that comes back is a
reason to look at who writes below run/.
""",
    ),
    "GW-STALE": Code(
        "the gateway has no valid snapshot",
        """\
Policy, keys and revocations reach the gateway as a signed snapshot that
expires. There is none, or the last one has expired, so nothing can be decided
and every request is refused.

Bring the control process back (`garrison up`); workers recover by themselves
within a second. `garrison doctor` shows the age of the snapshot.
""",
    ),
    "GW-ROUTE": Code(
        "there is nothing at this path",
        """\
The gateway answers a closed list of paths, matched exactly: no prefix, no
query, no `..`, no doubled slash. A model server's own doors are never reached.

Use /v1/models, /v1/chat/completions, /v1/completions or /v1/embeddings.
""",
    ),
    "GW-METHOD": Code(
        "the path is asked with another method",
        """\
Models are listed with GET; everything else is asked with POST.

Use the method that the `allow` header of the answer names.
""",
    ),
    "GW-MODEL": Code(
        "no such model is served here",
        """\
The token may use models, but none of this name and version is being served.
Those who may not use it are told 403 whether it exists or not.

List the names with GET /v1/models, or `garrison serve NAME@VERSION`.
""",
    ),
    "GW-TASK": Code(
        "the model does not serve this operation",
        """\
Each model serves stated operations: chat, completions or embeddings.

Ask it for one of the operations that the message names.
""",
    ),
    "GW-STEER": Code(
        "a field would choose where the request goes",
        """\
Fields such as api_base, base_url or api_key make a gateway send prompts and
keys to an address of the caller's choice. Where a request goes is decided by
the signed configuration alone, so the request is refused.

Remove the field. To serve another model: `garrison route add`.
""",
    ),
    "GW-FIELD": Code(
        "a field is unknown or of the wrong shape",
        """\
Only fields that are known and inspected are passed on. Dropping an unknown
one would change the answer without saying so, so it is refused by name.

Remove or correct the field; docs/gateway.md lists what passes.
""",
    ),
    "GW-PART": Code(
        "a part of the message cannot be inspected",
        """\
Images, audio, files and token ids can carry orders or secrets that a text
inspection does not see. They are not passed on. Images, inside the request,
pass to a route whose operator said so; the event then says that they were not
read.

Send text.
""",
    ),
    "GW-OPEN": Code(
        "every model server of this route fails",
        """\
A server that fails five times in a row is left alone for a second, then for
longer each time; one request finds out whether it is well again. Now all
servers of the route are left alone.

Try again after the stated seconds. An operator sees who fails in the events
(data.upstream); /metrics has garrison_gateway_upstreams_left_alone.
""",
    ),
    "GW-KEY": Code(
        "the broker does not open this with that key",
        """\
Providers' keys are held by a process of their own, the broker. Each key opens
the models of its own routes at one address; a worker asked for something
else, or by the name of a key that there is not.

Add the route again. If it was not changed, look at what runs as this user.
""",
    ),
    "GW-BUSY": Code(
        "every connection to the model server is in use",
        """\
The model server already has as many requests as it is given at once, and the
queue is full or did not move in time.

Try again in a few seconds, or serve the model from more workers.
""",
    ),
    "GW-UPSTREAM": Code(
        "the model server failed",
        """\
The model server does not answer, closed the connection before its answer was
complete, or answered with an error. What had already been streamed ends with
an error event and without [DONE].

Try again in a moment. It is restarted by itself; `garrison posture` says why.
""",
    ),
    "GW-REJECTED": Code(
        "the model server did not take the request",
        """\
The model server refused the request itself, often because the prompt is longer
than its context. Its reason, inspected, is in the message.

Shorten the prompt or drop the option that the message names.
""",
    ),
    "GW-ANSWER": Code(
        "the model server's answer is out of bounds",
        """\
The answer is not the JSON or event stream that was asked for, is larger than
the limit, or stops in the middle. Nothing of it is passed on unread, and a
stream is cut with an error event.

Check the model server's version and its memory; `garrison posture` names it.
""",
    ),
    "GW-TIMEOUT": Code(
        "the model server was too slow",
        """\
No first byte, no next byte or no end came within the limits of the gateway.

Ask for a shorter answer, or give the model more processor time.
""",
    ),
    "GW-GONE": Code(
        "the client left before its answer was complete",
        """\
The connection ended while the answer was being made. The model server's work
was cancelled at once; tokens made until then are counted.

Nothing to do. Many of these from one client hint at its time-out.
""",
    ),
    "GW-DRAIN": Code(
        "the gateway is stopping",
        """\
The gateway was asked to stop and this request did not end in the time that is
given to requests in flight.

Send it again; another worker or the next start answers it.
""",
    ),
    "RENDER-VALUE": Code(
        "a value that cannot stand in rendered configuration",
        """\
`garrison gateway render` writes configuration for other programs. What it
writes there - addresses, paths, names - has to be of a plain form: a quote, a
brace or a line end in a name would be configuration itself. Some programs
cannot give a request's body to somebody else (--ask).

Change the option that the message names.
""",
    ),
    "IMPORT-LITELLM": Code(
        "the LiteLLM configuration cannot be read",
        """\
The file is not YAML, is too large or too deep, or is not a LiteLLM proxy
configuration (`model_list` with `model_name` and `litellm_params`).

Give the file that `litellm --config` reads. Nothing of it is changed, and no
key in it is printed.
""",
    ),
    "HTTP-SYNTAX": Code(
        "not an HTTP/1.1 request",
        """\
The request is not exactly the grammar of RFC 9112: another version, a folded
or broken header, no or two Host headers, an absolute target. Two programs
could read it differently, which is how requests are smuggled.

Send a plain HTTP/1.1 request, or let nginx or Envoy in front translate.
""",
    ),
    "HTTP-FRAMING": Code(
        "where the body ends is ambiguous",
        """\
Content-Length and Transfer-Encoding contradict each other, stand there twice,
or a chunk is not what its size says. The connection is closed.

Send one Content-Length, or a chunked body without extensions and trailers.
""",
    ),
    "HTTP-UPGRADE": Code(
        "the connection cannot be upgraded",
        """\
WebSocket, h2c and other upgrades are not spoken here, and Connection may only
say close or keep-alive: naming other headers in it hides them from a proxy.

Use HTTP/1.1; put nginx or Envoy in front for HTTP/2.
""",
    ),
    "HTTP-HEADERS": Code(
        "the request head is too large",
        """\
There are more headers, or more bytes of them, than the gateway reads.

Send fewer headers; a token that is too large names too many models.
""",
    ),
    "HTTP-BODY": Code(
        "the request body is too large",
        """\
The body is larger than the gateway's limit (2 MiB unless set otherwise).

Send a shorter prompt, or fewer inputs in one request.
""",
    ),
    "HTTP-TIMEOUT": Code(
        "the request did not arrive in time",
        """\
The head or the body trickled in too slowly. A connection is not held open for
that: it is how a server is starved.

Send the request in one go.
""",
    ),
    "HTTP-TYPE": Code(
        "the body is not plain JSON",
        """\
The body has to be application/json without compression: what is compressed
cannot be bounded and inspected as it is read.

Send Content-Type: application/json and no Content-Encoding.
""",
    ),
    "HTTP-JSON": Code(
        "the body is not one JSON object that all parsers read alike",
        """\
The body is not JSON, is nested too deeply, or has one key twice. With a key
twice the inspection could read one value and the model the other.

Send one JSON object, each key once, nested at most 32 deep.
""",
    ),
    "LIM-RATE": Code(
        "a rate limit is used up",
        """\
Requests, tokens or parallel requests of this subject for this model have
reached their limit in the last 60 seconds. Tokens are reserved before a request
runs and settled to what it used.

Wait as long as the Retry-After header says, set a lower max_tokens, or ask an
operator for a higher limit.
""",
    ),
    "LIM-AUTH": Code(
        "too many bad tokens from one address",
        """\
An address that showed 50 access tokens within ten seconds that were not good
has to wait, because checking a signature costs more than a whole request.
Tokens that are known to be good go on working from that address.

Wait as long as the Retry-After header says. garrison posture counts failed
authentication by source and reason.
""",
    ),
    "LIM-SYNTAX": Code(
        "not a limit",
        """\
A limit has a name, says whom it is about (an identity, a model, a tenant;
`each` for one count each, nothing for all together) and at least one amount.
The limits for each identity and model that always hold are settings.

    garrison limit set --help
    garrison limit list
""",
    ),
    "PAT-BOUNDARY": Code(
        "too sensitive for that model",
        """\
The request is tagged with a tier (the header X-Garrison-Tier) that is above the
tier of the model's route: its data may not go there. The tag binds every server
behind the route, so no retry and no fallback leads around it.

Ask a model whose tier is high enough; garrison deploy status shows the tiers.
""",
    ),
    "PRM-INJECT": Code(
        "the prompt tries to override its instructions",
        """\
A text in the request - a message, a tool result, a tool description - matches
signatures of prompt injection or jailbreaks with a score over the threshold.
Nothing was sent to the model. The rule and its score are in the evidence.

Rephrase the request. When it is a false alarm, tell the operator the id of the
refusal: the first command says which rules saw what, and prints the second.

    garrison guard explain r-5f1c2a9b0000001c
    garrison guard except RULE --model NAME --owner WHO --until 2027-03-01
""",
    ),
    "GW-START": Code(
        "a gateway worker did not start",
        """\
The process that answers requests could not start: most often because another
program took the port in the meantime.

    ss -ltnp        shows who listens
    garrison doctor    shows what this machine can do
""",
    ),
    "DLP-BLOCK": Code(
        "the answer was withheld because of a value in it",
        """\
The route was added with --found block: an answer with a secret or personal
data in it ends there, instead of having the value replaced. A stream ends
with an error event and without the event that says it is complete.

The event of the request names the rule. To replace instead: add the route
again with --found redact.
""",
    ),
    "DLP-WEIGHTS": Code(
        "the classifier's weights are not the released ones",
        """\
The file of weights that judges texts has another digest than the one this
version of Garrison was released with. Whoever can change it decides what
passes, so nothing is judged by it.

Install Garrison again. After training your own (make train), put the digest
that the recipe prints into detect/classifier.py and review the change.
""",
    ),
    "DLP-RULE": Code(
        "a detection rule is not valid",
        """\
A rule pack could not be read: a key is unknown, a pattern or a trigger does not
compile, or a validator does not exist. No rule of the pack is used, because a
pack that is half there protects less than it says.

Correct the rule that the message names. docs/detection.md lists the keys of a
rule and shows one of each kind.
""",
    ),
    "PRM-LENGTH": Code(
        "a text is too long to inspect in one piece",
        """\
Detection reads a whole text before it answers, so the length is bounded. The
text was not inspected and therefore not passed on.

Send less text, or split it: documents are inspected part by part.
""",
    ),
    "PRM-UNDECIDED": Code(
        "a text could not be inspected",
        """\
The pattern engine failed on a text, so nobody can say what it carries. A text
that was not inspected is not passed on.

Repeat the request. If it happens again, `garrison doctor` checks the engine,
and the event of the request names the kind of failure.
""",
    ),
    "INSPECT-LINE": Code(
        "a line is not a text to inspect",
        """\
`garrison inspect --jsonl` reads one JSON object a line, with the text to judge
under "text" and an optional "id". This line is something else, or longer than
the limit. It was answered with an error object in its place; the other lines
were inspected, and the command ends with exit code 2.

    {"id": "1", "text": "what to inspect"}
""",
    ),
    "GW-CRASH": Code(
        "the gateway worker ended before the request did",
        """\
A worker process died (killed, out of memory, or a defect) after it had admitted
the request and before it recorded the end. What the client received is not
known; the event says when the request began, who asked and for what.

The supervisor starts a new worker by itself. If it repeats, `garrison doctor`.
""",
    ),
}
