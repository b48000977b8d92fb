-- The part of Kong's PDK and of resty.http that the rendered function uses, over nginx's own Lua interface.
-- What it asks goes through the location /__ask, which shows the client certificate.
local function encoded(value)
  if type(value) ~= "table" then return '"' .. tostring(value):gsub('[\\"]', "\\%0") .. '"' end
  local parts = {}
  for name, one in pairs(value) do parts[#parts + 1] = '"' .. name .. '":' .. encoded(one) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

return function(cert, key)
  package.loaded["resty.http"] = {
    new = function()
      return {
        set_timeouts = function() end,
        request_uri = function(_, address, asked)
          assert(asked.ssl_verify and asked.ssl_client_cert and asked.ssl_client_priv_key)
          local vars = {}
          for _, name in ipairs({ "authorization", "x-api-key", "content-type", "x-garrison-tier" }) do
            vars["ask_" .. name:gsub("-", "_")] = asked.headers[name] or ""
          end
          vars.ask_path = address:match("^https://[^/]+(/.*)$")
          local answer = ngx.location.capture("/__ask", { method = ngx["HTTP_" .. asked.method], body = asked.body, vars = vars })
          if answer.status == 502 or answer.status == 504 then return nil, "connection refused" end
          return { status = answer.status, headers = answer.header, body = answer.body }
        end,
      }
    end,
  }
  return {
    request = {
      get_raw_body = function(most)
        ngx.req.read_body()
        local body = ngx.req.get_body_data() or ""
        if #body > most then return nil, "the body is too large" end
        return body
      end,
      get_header = function(name) return ngx.req.get_headers()[name] end,
      get_method = ngx.req.get_method,
      get_path_with_query = function() return ngx.var.request_uri end,
    },
    response = {
      exit = function(status, body, headers)
        ngx.status = status
        for name, value in pairs(headers or {}) do ngx.header[name] = value end
        ngx.print(type(body) == "table" and encoded(body) or body or "")
        return ngx.exit(status)
      end,
    },
    service = { request = { set_header = ngx.req.set_header } },
    vault = {
      get = function(reference)
        return read(assert(({ ["{vault://env/garrison-cert}"] = cert, ["{vault://env/garrison-key}"] = key })[reference]))
      end,
    },
  }
end
