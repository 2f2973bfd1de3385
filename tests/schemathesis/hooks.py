"""What schemathesis has to know about one deployment, and the refusals that no JSON Schema can foresee."""

import collections
import json
import os
import random

import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import RejectedPositiveData, UseAfterFree

BACKENDS = os.environ["BACKENDS"].split()
INITIAL = os.environ["INITIAL_ACCESS_TOKEN"]
OPEN = {"ClientMetadata", "ClientInformation", "Discovery", "RegistrationPatch", "RegistrationReplacement", "Resolution"}
# what answers brought: tokens and entity tags by client
TOKENS, TAGS, CLIENTS = {}, {}, {}
# the lists of RP Metadata Choices
LISTS = set()
STATUSES = collections.defaultdict(collections.Counter)
BEYOND = collections.Counter()
CALLS = collections.Counter()

@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Backends and routes have the names that this deployment gave them."""
    components = raw_schema["components"]
    for name in ["NewRegistration", "RegistrationReplacement"]:
        components["schemas"][name]["properties"]["backend"]["enum"] = [*BACKENDS, None]
    components["parameters"]["name"]["schema"]["enum"] = BACKENDS
    components["parameters"]["route"]["schema"]["enum"] = BACKENDS
    components["parameters"]["ticket"]["schema"]["enum"] = [INITIAL]
    own = components["schemas"]["NewClientMetadata"]["properties"]
    LISTS.update(name for name in own if "contains" in own[name])
    if os.environ["FACE"] == "registration":
        # no issuer is approved here: with it, every registration would be refused for that alone
        del components["schemas"]["NewClientMetadata"]["properties"]["software_statement"]
        del components["schemas"]["OwnClientMetadata"]["properties"]["software_statement"]
    # a member that the document lacks is a failure; what a vendor or an operator adds is not ours to list
    for name, schema in components["schemas"].items():
        if schema.get("type") == "object" and not name.startswith(("New", "Own")) and name not in OPEN:
            schema.setdefault("additionalProperties", False)


def reconcile(metadata):
    """Takes out what contradicts another member, as nearly all combinations of seventy members do."""
    has = lambda name: metadata.get(name) is not None
    if not metadata.get("redirect_uris"):
        metadata["redirect_uris"] = ["https://client.example/callback"]
    for name in ["grant_types", "response_types"]:
        metadata.pop(name, None)
    if has("jwks"):
        metadata.pop("jwks_uri", None)
    method = metadata.get("token_endpoint_auth_method")
    if method in ("private_key_jwt", "self_signed_tls_client_auth", "tls_client_auth"):
        metadata["token_endpoint_auth_method"] = "client_secret_basic"
    for name in [name for name in metadata if name.startswith("tls_client_auth_")]:
        del metadata[name]
    for name in [name for name in metadata if name.endswith("_enc") and not has(name[:-4] + "_alg")]:
        del metadata[name]
    if metadata.get("dpop_bound_access_tokens"):
        metadata.pop("tls_client_certificate_bound_access_tokens", None)
    # what a member is and the choices for it: one at a time
    lists = [name for name in metadata if name in LISTS]
    drop = lists if len(lists) % 2 else [name for name in metadata if lists and name.endswith(("_alg", "_enc"))]
    for name in drop:
        del metadata[name]
    if has("token_endpoint_auth_methods_supported"):
        metadata["token_endpoint_auth_methods_supported"][-1] = "client_secret_basic"
        metadata.pop("token_endpoint_auth_method", None)
    if has("subject_types_supported"):
        metadata.pop("subject_type", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    """A client asks for what can be, shows the token that came with its registration, the ETag that it saw last, and a
    new key each time; now and then it does not."""
    CALLS[case.operation.label] += 1
    careless = CALLS[case.operation.label] % 8 == 0
    if case.meta is None or careless:
        return
    negative = case.meta.is_negative_at
    path, ids = case.operation.path, case.path_parameters or {}
    known = {"/register/{id}": TOKENS}.get(path, TAGS if path.startswith("/v1/clients/{id}") else {})
    # links have ids of their own, also of what was deleted
    linked = case.meta.phase.name == TestPhase.STATEFUL
    if known and ids.get("id") not in known and not linked and not negative(ParameterLocation.PATH):
        ids["id"] = random.Random(CALLS[case.operation.label]).choice(sorted(known))
    ident = ids.get("id")
    # the one that the configuration has put there; not one that is wrong, or left out, on purpose
    if path == "/register/{id}" and ident in TOKENS and case.headers.get("Authorization") == f"Bearer {INITIAL}":
        case.headers["Authorization"] = f"Bearer {TOKENS[ident]}"
    # the coverage phase has a wrong If-Match in all its requests, also where another part is on trial
    aim = getattr(case.meta.phase.data, "parameter_location", None)
    if (not negative(ParameterLocation.HEADER) or aim == ParameterLocation.BODY) and case.headers:
        if "If-Match" in case.headers:
            case.headers["If-Match"] = TAGS.get(ident) or "*"
        if "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = f"key-{sum(CALLS.values())}"
    if not negative(ParameterLocation.QUERY) and isinstance(case.query, dict):
        case.query.pop("cursor", None)
        if CALLS[case.operation.label] % 4:
            case.query.pop("dry_run", None)
            case.query.pop("strict", None)
    if not negative(ParameterLocation.BODY) and isinstance(case.body, dict):
        metadata = case.body if "register" in path else case.body.get("metadata")
        if isinstance(metadata, dict) and case.operation.method in ("post", "put"):
            reconcile(metadata)
        if path == "/register/{id}" and ident in TOKENS:
            case.body["client_id"] = CLIENTS[ident]
            case.body.pop("client_secret", None)
        if path == "/v1/clients/{id}":
            case.body.pop("backend", None)


@schemathesis.hook
def after_call(context, case, response):
    # not what is tried with another method on the same path
    if response.request.method == case.operation.method.upper():
        STATUSES[case.operation.label][str(response.status_code)] += 1
    if response.status_code in (200, 201) and "registration_client_uri" in response.text:
        told = response.json()
        ident = told["registration_client_uri"].rsplit("/", 1)[1]
        TOKENS[ident], CLIENTS[ident] = told["registration_access_token"], told["client_id"]
    elif response.status_code in (200, 201) and "etag" in response.headers:
        TAGS[response.json()["id"]] = response.headers["etag"][0]
    ident = (case.path_parameters or {}).get("id")
    if response.status_code == 412 and ident in TAGS:
        TAGS[ident] = None
    elif response.status_code == 204 and case.operation.method == "delete":
        TOKENS.pop(ident, None)
        TAGS.pop(ident, None)
    with open(os.environ["STATISTICS"], "w") as file:
        json.dump({"statuses": STATUSES, "beyond": BEYOND}, file)


# how the standards face names what it refuses of metadata (RFC 7591 §3.2.2)
REGISTRATION_ERRORS = ("invalid_client_metadata", "invalid_redirect_uri")


def beyond_schemas(case, response):
    """Why a request that its schema allows was rightly refused; None when it was not."""
    told = response.json()
    code = told.get("code", told.get("error"))
    if case.operation.path.endswith(":resolve") and code == "validation-error" and not told.get("errors"):
        return "resolve: the write is not open"
    if response.status_code == 413:
        return "too large: a schema limits members, not bodies"
    if response.status_code == 405 and case.operation.label == "DELETE /register/{id}":
        return "the vendor documents no deletion"
    if code == "invalid-request" and "cursor" in told["detail"] and (case.query or {}).get("cursor") is not None:
        return "cursor: an opaque word of the server"
    # no schema lists the names that every registry knows
    if (case.query or {}).get("strict") and code == "validation-error" and told.get("errors"):
        if all(issue["code"] == "unknown_member" for issue in told["errors"]):
            return "strict: a name that is not registered"
    if "error" not in told:
        return beyond(told, case.body)
    if code == "invalid_request" and response.status_code == 422:
        return "idempotency-key-reused: of what was before"
    if code in REGISTRATION_ERRORS:
        return beyond_registration(case, response, told)
    return None


def beyond(told, body):
    """The same of the problem document that says why."""
    code, issues = told["code"], told.get("errors", [])
    if code in ("unsupported-by-backend", "unsupported-value", "already-exists", "no-route"):
        return f"{code}: of the vendor or of the routes"
    if code == "validation-error" and "vendor" in told:
        return "validation-error: said by the vendor"
    if code in ("precondition-failed", "idempotency-key-reused"):
        return f"{code}: of what was before"
    # `allow-x00` keeps it out of texts only
    if code == "malformed-body" and "NUL in a member name" in told["detail"]:
        return "NUL in the name of a member"
    if issues and all(is_beyond(issue, body) for issue in issues):
        return f"{issues[0]['code']} at {issues[0]['pointer'].split('/')[1]}"
    return None


def beyond_registration(case, response, told):
    """The standards face has one word for all refusals of metadata, and sentences for people. What the same metadata is
    told by a look at the administration face says which it was."""
    if "operation" in told:
        return f"{told['error']}: said by the vendor, in {case.operation.label}"
    origin = response.request.url.split("/register")[0]
    if "route" in (case.path_parameters or {}):
        origin, backend = origin.rsplit("/", 1)
    else:
        backend = None
    key = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
    wish = {"metadata": case.body, "backend": backend}
    if case.operation.path == "/register/{id}":
        # some vendors refuse a change that they would take of a new client; what is taken here is a failure anyway
        wish, key["If-Match"] = {"metadata": case.body}, "*"
        look = requests.put(f"{origin}/v1/clients/{case.path_parameters['id']}", json=wish, headers=key, timeout=10)
    else:
        look = requests.post(f"{origin}/v1/clients?dry_run=true", json=wish, headers=key, timeout=10)
    if look.status_code == 200:
        return None
    why = beyond(look.json(), wish)
    return why and f"{told['error']}: {why}"


# what only a parser of URIs can tell
HOSTS = ("its host is not written in its plain form", "it cannot be parsed")


def is_beyond(issue, body):
    # between members
    if issue["code"] == "conflict" or "web clients with the implicit grant" in issue["detail"]:
        return True
    if issue["code"] in ("invalid_redirect_uri", "invalid_url"):
        # the words of the model; all others are an adapter's, of what its vendor takes
        own = issue["detail"].startswith(("not an acceptable", "not a web origin"))
        return not own or issue["detail"].endswith(HOSTS)
    # vendor-only members are the adapters': GET /v1/vendors lists them
    if issue["pointer"].startswith("#/vendor/"):
        return True
    # one member makes another one needed
    needed = ("jwks_uri", "backchannel_token_delivery_mode", "backchannel_client_notification_endpoint")
    if issue["code"] == "required" and issue["pointer"].rsplit("/", 1)[1] in needed:
        return True
    if issue["pointer"] == "#/metadata/redirect_uris" and "must have at least one entry" in issue["detail"]:
        return True
    # JSON Schema takes 2.0 for an integer; many readers of JSON do not
    value = body
    for part in issue["pointer"].split("/")[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    return issue["code"] == "invalid_value" and isinstance(value, float) and value.is_integer()


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if isinstance(failure, RejectedPositiveData):
        why = beyond_schemas(case, response)
        if why is not None:
            BEYOND[why] += 1
            return False
    # with mode=disable nothing is deleted; a 304 does not show what the client is
    if isinstance(failure, UseAfterFree) and response.status_code in (200, 304):
        key = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
        look = requests.get(response.request.url, headers=key, timeout=10)
        if look.status_code == 200 and look.json().get("state") == "disabled":
            return False
    return True
