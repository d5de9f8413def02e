// A person corrects the label of a feature, for everybody.

import { Code } from "@connectrpc/connect"
import { useId, useState } from "preact/hooks"
import { features, problem, type Problem } from "../api"
import { bytes, MOST_AUTHOR_BYTES, useAuthor } from "../author"
import { Dialog } from "../components/dialog"
import { useToken } from "../token"
import type { Feature } from "../gen/steersman/v1/feature_service_pb"

const MOST_CHARACTERS = 100
const STORE_AWAY = "SESSION_STORE_UNAVAILABLE"

/** What to say where the reason of a refusal is known here; the server's own words otherwise. */
function explained(refused: Problem): { title: string; detail: string } {
  if (refused.code === Code.FailedPrecondition)
    return {
      title: "The server has another bundle by now",
      detail:
        "Its features have other numbers. Load this page again and look for the feature there. Nothing was changed.",
    }
  if (refused.code === Code.Unavailable)
    return {
      title: "The label could not be kept",
      detail: `${refused.reason === STORE_AWAY ? "The store of labels" : "The server"} does not answer. Nothing was changed, and your text is still here: try again.`,
    }
  if (refused.code === Code.Unimplemented)
    return {
      title: "This server cannot keep labels",
      detail: "It is older than this page. The automatic label stays until the server is updated.",
    }
  if (refused.reason === "TOO_MANY_LABELS")
    return {
      title: "No more labels can be kept",
      detail: "The server keeps 1,000 corrections. Go back to the automatic label of another feature first.",
    }
  if (refused.code === Code.Unauthenticated)
    return { title: "Nothing was changed", detail: "The server wants to know who you are. Then save it again." }
  if (refused.code === Code.PermissionDenied)
    return { title: "You may not correct labels", detail: `That takes the role admin. ${refused.detail}` }
  const fields = refused.fields.map(({ field, description }) => `${field}: ${description}`).join("; ")
  return { title: refused.title, detail: fields || refused.detail }
}

export interface LabelDialogProps {
  feature: Feature
  bundleVersion: string
  saved: (feature: Feature) => void
  close: () => void
}

export function LabelDialog({ feature, bundleVersion, saved, close }: LabelDialogProps) {
  const id = useId()
  const [label, setLabel] = useState(feature.correction ? feature.label : "")
  const [author, setAuthor] = useAuthor()
  const { signedIn } = useToken()
  const [busy, setBusy] = useState(false)
  const [refused, setRefused] = useState<Problem>()
  const automatic = feature.correction?.automaticLabel ?? feature.label
  const save = async (text: string) => {
    setBusy(true)
    setRefused(undefined)
    try {
      const answer = await features.setLabel({ id: feature.id, bundleVersion, label: text, author: author.trim() })
      if (answer.feature) saved(answer.feature)
      close()
    } catch (error) {
      setRefused(problem(error))
      setBusy(false)
    }
  }
  const isLong = bytes(author.trim()) > MOST_AUTHOR_BYTES
  const unnamed = !signedIn && !author.trim()
  const said = refused && explained(refused)
  return (
    <Dialog title="Correct the label" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void save(label.trim())
        }}
      >
        <p class="note">
          Everybody sees the new label. It stays when the model is trained again: the feature that does the same takes
          it.
        </p>
        <p>
          Automatic label: <q>{automatic || "no clear meaning"}</q>
        </p>
        <p class="field">
          <label for={`${id}-label`}>New label</label>
          <input
            id={`${id}-label`}
            required
            maxLength={MOST_CHARACTERS}
            value={label}
            // Pasted line breaks are refused by the server.
            onInput={(event) => setLabel(event.currentTarget.value.replace(/[\r\n\u2028\u2029]+/g, " "))}
          />
        </p>
        {signedIn ? (
          <p class="note">It is recorded under the name of your token.</p>
        ) : (
          <p class="field">
            <label for={`${id}-author`}>Your name</label>
            <input
              id={`${id}-author`}
              required
              autocomplete="name"
              maxLength={MOST_AUTHOR_BYTES}
              value={author}
              onInput={(event) => setAuthor(event.currentTarget.value)}
            />
            {isLong && <small class="down">This is too long: at most {MOST_AUTHOR_BYTES} bytes.</small>}
          </p>
        )}
        {said && (
          <div class="problem" role="alert">
            <p class="problem-title">{said.title}</p>
            <p>{said.detail}</p>
          </div>
        )}
        <div class="row">
          <button type="submit" class="primary" disabled={busy || isLong || !label.trim() || unnamed}>
            Save
          </button>
          {feature.correction && (
            <button type="button" disabled={busy || isLong || unnamed} onClick={() => void save("")}>
              Back to the automatic label
            </button>
          )}
          <button type="button" onClick={close}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  )
}
