// Whose list it is: a session, or the history of a real person from the bundle.

import { Code } from "@connectrpc/connect"
import { useId, useState } from "preact/hooks"
import { model, problem } from "../api"
import { useKnown } from "../known"
import { changed, type Request } from "../request"

/** What session ids are made of. */
export const SESSION_ID = "[A-Za-z0-9._:\\-]{1,128}"

export function Whose({ request, setRequest }: { request: Request; setRequest: (request: Request) => void }) {
  const id = useId()
  const { info } = useKnown()
  const [said, setSaid] = useState("")
  const setSession = (sessionId: string) => {
    setSaid("")
    setRequest(
      changed(request, (copy) => {
        copy.sessionId = sessionId
        if (sessionId) delete copy.history
      }),
    )
  }
  const takeOne = async () => {
    try {
      const seed = 1 + Math.floor(Math.random() * 0xfffffffe)
      const { histories } = await model.listHistories({ pageSize: 1, seed })
      const history = histories[0]?.history
      if (!history) return setSaid(`This bundle (format ${info.bundleFormat}) has no histories to try.`)
      setSaid("")
      setRequest(
        changed(request, (copy) => {
          copy.history = history
          copy.sessionId = ""
        }),
      )
    } catch (error) {
      const what = problem(error)
      setSaid(what.code === Code.Unimplemented ? "This server is older and has no histories to try." : what.detail)
    }
  }
  return (
    <form
      class="whose"
      onSubmit={(event) => {
        event.preventDefault()
        setSession(new FormData(event.currentTarget).get("session")?.toString().trim() ?? "")
      }}
    >
      <label for={id}>Session</label>
      <div class="row">
        <input
          key={request.sessionId}
          id={id}
          class="grow"
          name="session"
          autocomplete="off"
          spellcheck={false}
          pattern={SESSION_ID}
          title="Letters, digits and . _ - : , at most 128"
          placeholder="Id of a session"
          defaultValue={request.sessionId}
        />
        <button type="submit">Show</button>
      </div>
      <button type="button" onClick={takeOne}>
        A random real history
      </button>
      <p role="status" class="note">
        {said}
      </p>
    </form>
  )
}
