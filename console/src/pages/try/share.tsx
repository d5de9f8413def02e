// The link, and the request as code.

import { useState } from "preact/hooks"
import { root } from "../../root"
import { Copy } from "../../components/copy"
import { Dialog } from "../../components/dialog"
import type { Request } from "../../request"
import { toText } from "../../request"
import { address } from "../../route"
import { useToken } from "../../token"
import { curl, grpcurl, python } from "./snippets"

const ADDRESS_KEY = "steersman-grpc-address"
const GRPC_PORT = 50051

const linkOf = (request: Request, item: string): string =>
  new URL(address("try", { r: toText(request), item }), location.href).href

export function Share({ request, item }: { request: Request; item: string }) {
  const [open, setOpen] = useState(false)
  return (
    <div class="row try-share">
      <Copy text={() => linkOf(request, item)} label="Copy link" />
      <button type="button" onClick={() => setOpen(true)}>
        Copy as code
      </button>
      {open && <Code request={request} close={() => setOpen(false)} />}
    </div>
  )
}

function Code({ request, close }: { request: Request; close: () => void }) {
  const [grpc, setGrpc] = useState(() => localStorage.getItem(ADDRESS_KEY) ?? `${root.hostname}:${GRPC_PORT}`)
  const tls = root.protocol === "https:"
  const { signedIn } = useToken()
  const codes = [
    { name: "curl", code: curl(request, root, signedIn) },
    { name: "Python", code: python(request, grpc, tls, signedIn) },
    { name: "grpcurl", code: grpcurl(request, grpc, tls, signedIn) },
  ]
  return (
    <Dialog title="This request as code" close={close}>
      {codes.map(({ name, code }) => (
        <section key={name} class="try-code">
          <div class="card-head">
            <h3>{name}</h3>
            <Copy text={() => code} label={`Copy ${name}`} />
          </div>
          <pre tabIndex={0} aria-label={name}>
            <code>{code}</code>
          </pre>
        </section>
      ))}
      <label class="field">
        <span>Address of gRPC, for Python and grpcurl</span>
        <input
          type="text"
          spellcheck={false}
          value={grpc}
          onInput={(event) => {
            setGrpc(event.currentTarget.value)
            localStorage.setItem(ADDRESS_KEY, event.currentTarget.value)
          }}
        />
        <span class="note">
          The server prints it when it starts (over gRPC). Python: <code>pip install 'steersman[client]'</code>
        </span>
      </label>
    </Dialog>
  )
}
