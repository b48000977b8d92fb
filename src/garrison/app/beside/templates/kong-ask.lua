-- Ask Garrison about this request, with its whole body. Fail closed: no answer, no request.
local http = require "resty.http"
local ssl = require "ngx.ssl"
local body, problem = kong.request.get_raw_body({{ max_body }})
if not body then
  return kong.response.exit(413, { error = { code = "HTTP-BODY", message = problem or "the body cannot be read" } })
end
local headers = {}
for _, name in ipairs({ "authorization", "x-api-key", "anthropic-version", "content-type", "content-encoding", "x-garrison-tier" }) do
  headers[name] = kong.request.get_header(name)
end
local cert = ssl.parse_pem_cert(kong.vault.get("{vault://env/garrison-cert}"))
local key = ssl.parse_pem_priv_key(kong.vault.get("{vault://env/garrison-key}"))
local client = http.new()
client:set_timeouts(2000, 2000, 5000)
local answer = cert and key and client:request_uri("https://{{ site.name }}:{{ gateway_port }}/ext_authz" .. kong.request.get_path_with_query(), {
  method = kong.request.get_method(),
  headers = headers,
  body = body,
  ssl_verify = true,
  ssl_client_cert = cert,
  ssl_client_priv_key = key,
})
if not answer then
  return kong.response.exit(503, { error = { code = "GW-ASK", message = "nobody could be asked about this request" } })
end
if answer.status ~= 200 then
  local shown = {}
  for _, name in ipairs({ "content-type", "retry-after", "www-authenticate", "x-garrison-audit-id" }) do
    shown[name] = answer.headers[name]
  end
  return kong.response.exit(answer.status, answer.body, shown)
end
-- What Garrison says replaces what a client may have sent.
kong.service.request.set_header("x-garrison-subject", answer.headers["x-garrison-subject"])
kong.service.request.set_header("x-garrison-audit-id", answer.headers["x-garrison-audit-id"])
