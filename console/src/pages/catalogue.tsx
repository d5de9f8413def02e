// What the pages Concepts and Features share.

import { useEffect, useRef, useState } from "preact/hooks"
import type { ComponentChildren } from "preact"
import type { Control } from "../gen/steersman/v1/control_pb"
import type { Effect, EffectPoint } from "../gen/steersman/v1/feature_service_pb"
import { Curve, pointsOf } from "../components/curve"
import { withStrength } from "../changes"
import { percent } from "../format"
import { points, share } from "../names"
import { changed, toText, type Request } from "../request"
import { address, remember } from "../route"
import "./catalogue.css"

/** The strength that effects are stated for. */
const TRY_STRENGTH = 1

/** Goes to Try, with the control added to what is there. */
export function TryIt({
  request,
  target,
  children,
  plain,
}: {
  request: Request
  target: Control["target"]
  children: ComponentChildren
  plain?: boolean
}) {
  const steered = changed(request, (copy) => {
    copy.controls = withStrength(copy.controls, target, TRY_STRENGTH)
  })
  return (
    <a class={plain ? "button" : "button primary"} href={address("try", { r: toText(steered) })}>
      {children}
    </a>
  )
}

/** The head of a detail view. The focus follows to it, as to a page of its own. */
export function DetailHead({
  back,
  section,
  title,
  chips,
  children,
}: {
  back: string
  section: string
  title: string
  chips?: ComponentChildren
  /** What can be done with it. */
  children?: ComponentChildren
}) {
  const head = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    scrollTo(0, 0)
    head.current?.focus({ preventScroll: true })
  }, [])
  useEffect(() => {
    document.title = `${title} · ${section} · Steersman`
    return () => void (document.title = `${section} · Steersman`)
  }, [title, section])
  return (
    <header class="detail-head">
      <a href={back}>← {section}</a>
      <div class="detail-title">
        <h2 ref={head} tabIndex={-1}>
          {title}
        </h2>
        {chips}
      </div>
      <div class="row">{children}</div>
    </header>
  )
}

export interface EffectCardProps {
  name: string
  effect: Effect | undefined
  curve: EffectPoint[]
  natural?: { up: number; down: number }
  /** What the share is of, for people: "is Horror". */
  says: string
  children?: ComponentChildren
}

export function EffectCard({ name, effect, curve, natural, says, children }: EffectCardProps) {
  const known = pointsOf(curve, effect)
  return (
    <section class="card" aria-labelledby="effect">
      <h2 id="effect">What it does</h2>
      {effect && (
        <p>
          At strength 1, <strong>{share(effect.shareAfter)}</strong> of the top ten {says} instead of{" "}
          {share(effect.shareBefore)} ({points(effect.shareAfter - effect.shareBefore)}), and the list keeps{" "}
          <strong>{percent(effect.ndcgKept)}</strong> of its accuracy.
        </p>
      )}
      {children}
      {known.length ? (
        <Curve points={known} name={name} {...(natural && { natural })} />
      ) : (
        <p class="muted">What it does was not measured.</p>
      )}
      {known.length > 0 && (
        <p class="note">
          {curve.length
            ? "Means over people that the model was not trained on. "
            : "This bundle is older than format 1.6: measured at strengths 0 and 1 alone. "}
          Accuracy is how well the list foretells what people chose next (NDCG@10), as a part of that of the list
          without controls.
        </p>
      )}
    </section>
  )
}

export function TopItems({ titles, children }: { titles: string[]; children?: ComponentChildren }) {
  return (
    <section class="card" aria-labelledby="top-items">
      <h2 id="top-items">Strongest on</h2>
      {children}
      {titles.length ? (
        <ol class="top-items">
          {titles.map((title, index) => (
            <li key={index}>
              <span class="item-place">{index + 1}</span> {title}
            </li>
          ))}
        </ol>
      ) : (
        <p class="muted">It fires on no item.</p>
      )}
    </section>
  )
}

const addresses: Record<string, string> = {}

/** The list of a page as it was last looked at: what "back" on its detail views goes to. */
export const lastList = (page: string): string => addresses[page] ?? address(page)

/** The filters of a list: in the address, and back from there. */
export function useListState<S extends Record<string, string>>(
  page: string,
  params: URLSearchParams,
  names: (keyof S & string)[],
): [S, (change: Partial<S>) => void] {
  const read = () => Object.fromEntries(names.map((name) => [name, params.get(name) ?? ""])) as S
  const [state, setState] = useState<S>(read)
  useEffect(() => setState(read()), [params])
  const change = (some: Partial<S>) => setState((before) => ({ ...before, ...some }))
  useEffect(() => {
    addresses[page] = address(page, state)
    // Browsers allow a hundred changes of the address in half a minute.
    const here = location.hash
    const timer = setTimeout(() => {
      // Not over the address of a page that is just being gone to.
      if (location.hash === here) remember(page, state)
    }, 300)
    return () => clearTimeout(timer)
  }, [state])
  return [state, change]
}
