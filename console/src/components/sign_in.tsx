// Asks for a token where the server wants one: above all else, dialogs that are open included, so that nothing in them is lost.

import { useEffect, useId, useRef, useState } from "preact/hooks"
import { cleaned } from "../pasted"
import { signIn, type Wanted } from "../token"

export function SignIn({ wanted }: { wanted: Wanted }) {
  const id = useId()
  const [text, setText] = useState("")
  const given = cleaned(text)
  const dialog = useRef<HTMLDialogElement>(null)
  const show = () => dialog.current?.showModal()
  useEffect(show, [])
  return (
    <dialog ref={dialog} class="sign-in" aria-labelledby={`${id}-title`} onClose={show}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          if (given) signIn(given)
        }}
      >
        <h2 id={`${id}-title`}>Sign in</h2>
        <p>This server wants to know who calls. Paste a token or an API key; who runs the server gives them.</p>
        {wanted.refused && (
          <div class="problem" role="alert">
            <p class="problem-title">The server refused the last one</p>
            <p>{wanted.refused}</p>
          </div>
        )}
        <p class="field">
          <label for={`${id}-token`}>Token</label>
          <input
            id={`${id}-token`}
            type="password"
            autocomplete="off"
            spellcheck={false}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
          {text && !given && <small class="down">A token has letters, digits and signs of ASCII alone.</small>}
        </p>
        <div class="row">
          <button type="submit" class="primary" disabled={!given}>
            Sign in
          </button>
        </div>
        <p class="note">
          It is kept in this tab until you sign out or close it, and sent to this server alone. What you were doing is
          still here.
        </p>
      </form>
    </dialog>
  )
}
