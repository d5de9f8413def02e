// What can be done with changes: keep them with the session, undo them, take them along, or forget the person.

import { toJson } from "@bufbuild/protobuf"
import { Code } from "@connectrpc/connect"
import { useId, useState } from "preact/hooks"
import { problem, sessions, type Problem } from "../api"
import { merged } from "../changes"
import { Dialog } from "../components/dialog"
import { ProblemBox } from "../components/states"
import { ControlSchema, type Control } from "../gen/steersman/v1/control_pb"
import type { Taste } from "../gen/steersman/v1/explanation_service_pb"
import { EventKind } from "../gen/steersman/v1/session_service_pb"
import { count, plural } from "../format"
import { useKnown } from "../known"
import { controlName } from "../names"
import { changed } from "../request"
import type { PersonProps } from "./taste"

export interface ChangesProps extends PersonProps {
  names: Map<string, string>
  taste: Taste | undefined
}

export function Changes(props: ChangesProps) {
  const { request, setRequest, session, wasKept, say } = props
  const [dialog, setDialog] = useState<"keep" | "forget">()
  const [refused, setRefused] = useState<Problem>()
  const changes = request.controls.length
  const keep = async () => {
    if (!session) return setDialog("keep")
    setRefused(undefined)
    try {
      const { sessionId, controls } = session
      await sessions.setControls({ sessionId, controls: merged(controls, request.controls) })
      setRequest(changed(request, (copy) => void (copy.controls = [])))
      wasKept()
      say("Kept with the session: it applies to every list from now on.")
    } catch (error) {
      setRefused(problem(error))
    }
  }
  return (
    <section class="card taste-changes" aria-label="Your changes">
      <p>
        <strong>{changes ? plural(changes, "change") : "No changes"}</strong>
        {changes > 0 && <span class="muted"> not kept yet</span>}
      </p>
      <div class="row">
        <button type="button" class="primary" disabled={!changes} onClick={() => void keep()}>
          {session ? "Keep with the session" : "Keep with a session"}
        </button>
        <button
          type="button"
          disabled={!changes}
          onClick={() => setRequest(changed(request, (copy) => void (copy.controls = [])))}
        >
          Undo
        </button>
        <Export {...props} />
        {session && (
          <button type="button" onClick={() => setDialog("forget")}>
            Forget me
          </button>
        )}
      </div>
      {refused && <ProblemBox problem={refused} retry={() => void keep()} />}
      {dialog === "keep" && <KeepDialog {...props} close={() => setDialog(undefined)} />}
      {dialog === "forget" && <ForgetDialog {...props} close={() => setDialog(undefined)} />}
    </section>
  )
}

/** What session ids are made of. */
const SESSION_ID = "[A-Za-z0-9._:\\-]{1,128}"

/** All that this page knows of the person, as JSON. */
function Export({ request, session, taste, names }: ChangesProps) {
  const known = useKnown()
  const told = (controls: Control[]) =>
    controls.map((control) => ({
      name: controlName(control, known, names),
      control: toJson(ControlSchema, control),
    }))
  const save = () => {
    const content = {
      written: new Date().toISOString(),
      bundle_version: known.info.bundleVersion,
      ...(session && { session_id: session.sessionId }),
      history: session?.itemIds ?? request.history?.itemIds ?? [],
      taste: taste?.features.map(({ featureId, label, activation, spreadShare }) => ({
        feature_id: featureId,
        label,
        activation,
        spread_share: spreadShare,
      })),
      kept: told(session?.controls ?? []),
      changes_not_kept: told(request.controls),
      disliked_item_ids: session?.dislikedItemIds ?? [],
      hidden_item_ids: session?.hiddenItemIds ?? [],
    }
    const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }))
    const link = document.createElement("a")
    link.href = url
    link.download = `taste-${session?.sessionId.replace(/[^\w.-]/g, "_") ?? "history"}.json`
    link.click()
    setTimeout(() => URL.revokeObjectURL(url))
  }
  return (
    <button type="button" disabled={!taste} onClick={save}>
      Export
    </button>
  )
}

const newId = () => `console-${crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36)}`

/** A history becomes a session: its events are appended to one, and changes are kept with it. */
function KeepDialog({ request, setRequest, say, close }: ChangesProps & { close: () => void }) {
  const id = useId()
  const { info } = useKnown()
  const [sessionId, setSessionId] = useState(newId)
  const [busy, setBusy] = useState(false)
  const [isTaken, setTaken] = useState(false)
  const [refused, setRefused] = useState<Problem>()
  const itemIds = request.history?.itemIds ?? []
  const open = (text: string, controls: Control[]) => {
    setRequest(
      changed(request, (copy) => {
        copy.sessionId = sessionId
        copy.controls = controls
        delete copy.history
      }),
    )
    say(text)
    close()
  }
  const keep = async () => {
    setBusy(true)
    setTaken(false)
    setRefused(undefined)
    try {
      if (await exists(sessionId)) setTaken(true)
      else {
        await append(sessionId, itemIds, info.limits?.eventsPerAppend || 100)
        await sessions.setControls({ sessionId, controls: request.controls })
        return open(`Kept with the new session ${sessionId}.`, [])
      }
    } catch (error) {
      setRefused(problem(error))
    }
    setBusy(false)
  }
  return (
    <Dialog title="Keep with a session" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void keep()
        }}
      >
        <p>
          This is a history, not a session. A session is made of it: its {plural(itemIds.length, "event")} and your{" "}
          {plural(request.controls.length, "change")} are kept, and apply to every list of the session from then on.
        </p>
        {request.history !== undefined && request.history.eventsBefore > 0n && (
          <p class="note">
            Its first {count(request.history.eventsBefore)} events are not known here, and are left out.
          </p>
        )}
        <p class="field">
          <label for={id}>Id of the session</label>
          <input
            id={id}
            required
            pattern={SESSION_ID}
            title="Letters, digits and . _ - : , at most 128"
            autocomplete="off"
            spellcheck={false}
            value={sessionId}
            onInput={(event) => setSessionId(event.currentTarget.value)}
          />
        </p>
        {isTaken && (
          <div class="problem" role="alert">
            <p class="problem-title">There is a session of this name already</p>
            <p>Its events would be mixed with these. Choose another id, or open that session with your changes.</p>
            <button type="button" onClick={() => open("", request.controls)}>
              Open it
            </button>
          </div>
        )}
        {refused && <ProblemBox problem={refused} />}
        <div class="row">
          <button type="submit" class="primary" disabled={busy}>
            Keep
          </button>
          <button type="button" onClick={close}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  )
}

async function exists(sessionId: string): Promise<boolean> {
  try {
    return (await sessions.getSession({ sessionId, maxItemIds: 1 })).session !== undefined
  } catch (error) {
    if (problem(error).code === Code.NotFound) return false
    throw error
  }
}

/** Events have ids by their place, so that one that is sent again counts once. */
async function append(sessionId: string, itemIds: string[], most: number): Promise<void> {
  for (let start = 0; start < itemIds.length; start += most) {
    const events = itemIds
      .slice(start, start + most)
      .map((itemId, place) => ({ eventId: `history-${start + place}`, itemId, kind: EventKind.CONSUMED }))
    await sessions.appendEvents({ sessionId, events })
  }
}

function ForgetDialog({ request, setRequest, session, say, close }: ChangesProps & { close: () => void }) {
  const [busy, setBusy] = useState(false)
  const [refused, setRefused] = useState<Problem>()
  if (!session) return null
  const { sessionId, totalEvents, controls, dislikedItemIds, hiddenItemIds } = session
  const forget = async () => {
    setBusy(true)
    try {
      await sessions.deleteSession({ sessionId })
      setRequest(
        changed(request, (copy) => {
          copy.sessionId = ""
          copy.controls = []
        }),
      )
      say(`The session ${sessionId} is forgotten.`)
      close()
    } catch (error) {
      setRefused(problem(error))
      setBusy(false)
    }
  }
  return (
    <Dialog title="Forget this person?" close={close}>
      <p>This deletes the session “{sessionId}” for good. It cannot be undone. Lost are:</p>
      <ul class="lost">
        <li>{plural(Number(totalEvents), "event")} of its history</li>
        <li>{plural(controls.length, "kept change")}</li>
        <li>{plural(dislikedItemIds.length, "disliked item")}</li>
        <li>{plural(hiddenItemIds.length, "hidden item")}</li>
        {request.controls.length > 0 && <li>{plural(request.controls.length, "change")} that you did not keep</li>}
      </ul>
      <p class="note">Export it first if you may want it back.</p>
      {refused && <ProblemBox problem={refused} />}
      <div class="row">
        <button type="button" class="danger" disabled={busy} onClick={() => void forget()}>
          Forget
        </button>
        <button type="button" onClick={close}>
          Cancel
        </button>
      </div>
    </Dialog>
  )
}
