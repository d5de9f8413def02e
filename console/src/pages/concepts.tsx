// Concepts: what can be steered by name, what that does, and what it costs.

import { useMemo } from "preact/hooks"
import type { PageProps } from "../app"
import { features as catalogue } from "../api"
import { useCall } from "../calls"
import { pointsOf, SmallCurve } from "../components/curve"
import { Neighbours } from "../components/neighbours"
import { Answer, Empty } from "../components/states"
import type { Concept, Feature } from "../gen/steersman/v1/feature_service_pb"
import { percent, plural, signed } from "../format"
import { useKnown } from "../known"
import { featureName, points, share, times } from "../names"
import { plain } from "../target_names"
import { address } from "../route"
import { DetailHead, EffectCard, lastList, TopItems, TryIt, useListState } from "./catalogue"

export function Concepts(props: PageProps) {
  const name = props.params.get("name")
  return name ? <Detail key={name} name={name} {...props} /> : <List {...props} />
}

const title = (concept: Concept) => concept.displayName || concept.value || concept.name
const raised = ({ effect }: Concept) => (effect ? effect.shareAfter - effect.shareBefore : -1)
const kept = ({ effect }: Concept) => effect?.ndcgKept ?? -1

/** By column: what it is sorted by, and the direction that a first press gives. */
const ORDERS: Record<string, { by: (one: Concept, other: Concept) => number; down: boolean }> = {
  name: { by: (one, other) => title(one).localeCompare(title(other)), down: false },
  raises: { by: (one, other) => raised(one) - raised(other), down: true },
  keeps: { by: (one, other) => kept(one) - kept(other), down: true },
  strength: { by: (one, other) => one.strength - other.strength, down: false },
}

const plainText = (text: string) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase()

function found(concepts: Concept[], text: string, attribute: string, sort: string): Concept[] {
  const words = plainText(text).split(/\s+/).filter(Boolean)
  const fits = (concept: Concept) => {
    const own = plainText(`${title(concept)} ${concept.name} ${plain(concept.attribute)}`)
    return (!attribute || concept.attribute === attribute) && words.every((word) => own.includes(word))
  }
  const [column, turned] = (sort || "raises").split("-")
  const order = ORDERS[column ?? ""] ?? ORDERS.raises!
  const sign = order.down !== (turned === "turned") ? -1 : 1
  return concepts.filter(fits).sort((one, other) => sign * order.by(one, other))
}

function List({ params }: PageProps) {
  const { concepts } = useKnown()
  const [{ q, of, sort }, change] = useListState<{ q: string; of: string; sort: string }>("concepts", params, [
    "q",
    "of",
    "sort",
  ])
  const attributes = useMemo(() => [...new Set(concepts.map(({ attribute }) => attribute))], [concepts])
  const shown = useMemo(() => found(concepts, q, of, sort), [concepts, q, of, sort])
  if (!concepts.length)
    return (
      <Empty title="This bundle has no concepts">Features and tilts by an attribute can be steered all the same.</Empty>
    )
  return (
    <section class="card catalogue" aria-label="All concepts">
      <p class="note">
        A concept is steered by name, and keeps its name when the model is trained again. Figures are for strength 1.
        What it takes is said in parts of the strongest that its feature is ever naturally seen: up to 2 × is natural.
        In the small charts, the solid line is the share of the list by strength, the dashed one the accuracy that is
        kept.
      </p>
      <div class="list-tools">
        <label class="field grow">
          <span>Search</span>
          <input
            type="search"
            placeholder="Name of a concept"
            value={q}
            onInput={(event) => change({ q: event.currentTarget.value })}
          />
        </label>
        <label class="field">
          <span>Attribute</span>
          <select value={of} onChange={(event) => change({ of: event.currentTarget.value })}>
            <option value="">all</option>
            {attributes.map((attribute) => (
              <option key={attribute} value={attribute}>
                {plain(attribute)}
              </option>
            ))}
          </select>
        </label>
        <label class="field phone-only">
          <span>Sort by</span>
          <select
            value={(sort || "raises").split("-")[0]}
            onChange={(event) => change({ sort: event.currentTarget.value })}
          >
            <option value="raises">what it raises most</option>
            <option value="keeps">accuracy kept</option>
            <option value="strength">strength it takes</option>
            <option value="name">name</option>
          </select>
        </label>
        <p class="muted" role="status">
          {plural(shown.length, "concept")}
        </p>
      </div>
      {shown.length ? (
        <Table concepts={shown} sort={sort || "raises"} change={(next) => change({ sort: next })} />
      ) : (
        <Empty title="No concept has these words">
          Features may: <a href={address("features", { q })}>search them</a>.
        </Empty>
      )}
    </section>
  )
}

function Table({ concepts, sort, change }: { concepts: Concept[]; sort: string; change: (sort: string) => void }) {
  const head = (column: string, name: string, kind = "number") => {
    const isOn = sort.split("-")[0] === column
    const isTurned = sort.endsWith("-turned")
    const isDown = ORDERS[column]!.down !== isTurned
    return (
      <th class={kind} aria-sort={isOn ? (isDown ? "descending" : "ascending") : "none"}>
        <button type="button" onClick={() => change(isOn && !isTurned ? `${column}-turned` : column)}>
          {name}
        </button>
      </th>
    )
  }
  return (
    <div class="table-scroll">
      <table>
        <thead>
          <tr>
            {head("name", "Concept", "")}
            {head("raises", "Raises its share by")}
            <th class="number">Share of the list</th>
            {head("keeps", "Accuracy kept")}
            {head("strength", "Strength it takes")}
            <th>By strength</th>
          </tr>
        </thead>
        <tbody>
          {concepts.map((concept) => (
            <Line key={concept.name} concept={concept} />
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Line({ concept }: { concept: Concept }) {
  const { effect } = concept
  return (
    <tr>
      <td>
        <a href={address("concepts", { name: concept.name })}>{title(concept)}</a>{" "}
        {concept.beyondNatural && <span class="chip chip-warn">beyond natural</span>}
        <small>{plain(concept.attribute)}</small>
      </td>
      <td class="number" data-name="raises by">
        {effect ? points(raised(concept)) : "–"}
      </td>
      <td class="number" data-name="share">
        {effect ? `${share(effect.shareBefore)} → ${share(effect.shareAfter)}` : "–"}
      </td>
      <td class="number" data-name="accuracy kept">
        {effect ? percent(effect.ndcgKept) : "–"}
      </td>
      <td class="number" data-name="takes">
        {times(concept.strength)}
      </td>
      <td class="curve-cell">
        <SmallCurve points={pointsOf(concept.curve, effect)} />
      </td>
    </tr>
  )
}

/** Twice as strong as a feature is ever naturally seen. */
const NATURAL = 2

/** Strengths of the concept at which its strongest feature leaves its natural range. */
function naturalRange({ strength, unitUp, unitDown }: Concept) {
  if (!strength) return undefined
  const up = NATURAL / strength
  return { up, down: unitUp && unitDown ? (up * unitUp) / unitDown : up }
}

function Detail({ name, request }: PageProps & { name: string }) {
  const { concepts, info } = useKnown()
  const concept = concepts.find((each) => each.name === name)
  const back = lastList("concepts")
  if (!concept)
    return (
      <Empty title={`There is no concept “${name}”`}>
        The bundle that is served does not have it. <a href={back}>All concepts</a>
      </Empty>
    )
  const natural = naturalRange(concept)
  const isNumber = !concept.value
  const target = { case: "concept" as const, value: concept.name }
  const tilt = {
    case: "attribute" as const,
    value: { $typeName: "steersman.v1.AttributeRef" as const, name: concept.attribute, value: concept.value },
  }
  return (
    <>
      <DetailHead
        back={back}
        section="Concepts"
        title={title(concept)}
        chips={
          <span class="chips">
            <span class="chip">{plain(concept.attribute)}</span>
            {concept.beyondNatural && <span class="chip chip-warn">beyond natural</span>}
          </span>
        }
      >
        <TryIt request={request} target={target}>
          Try it
        </TryIt>
        {concept.beyondNatural && info.attributes.includes(concept.attribute) && (
          <TryIt request={request} target={tilt} plain>
            Try a tilt of scores instead
          </TryIt>
        )}
      </DetailHead>
      <div class="detail">
        <div>
          <EffectCard
            name={title(concept)}
            effect={concept.effect}
            curve={concept.curve}
            says={isNumber ? "lies above the median of what people chose" : `is ${title(concept)}`}
            {...(natural && { natural })}
          >
            {concept.beyondNatural && (
              <p class="warning">
                At strength 1 it asks a feature for {times(concept.strength)} what it ever naturally shows; natural is
                up to {times(NATURAL)}. What it means there is less sure.
              </p>
            )}
          </EffectCard>
          <section class="card" aria-labelledby="near">
            <h2 id="near">Near to it</h2>
            <Neighbours of={target} />
          </section>
        </div>
        <Terms concept={concept} />
      </div>
    </>
  )
}

/** The features that a concept comes down to, and the items of the strongest one. */
function Terms({ concept }: { concept: Concept }) {
  const terms = useMemo(
    () => [...concept.terms].sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight)),
    [concept],
  )
  const call = useCall(
    (signal) =>
      Promise.all(
        terms.map(async ({ featureId, weight }) => {
          const { feature } = await catalogue.getFeature({ id: featureId }, { signal })
          return { feature: feature as Feature, weight }
        }),
      ),
    [terms],
  )
  return (
    <Answer call={call} lines={8}>
      {(all) => (
        <div>
          <TopItems titles={all[0]?.feature.topItemTitles ?? []} />
          <section class="card" aria-labelledby="terms">
            <h2 id="terms">How it is done</h2>
            <p class="note">
              At strength 1 it adds to {all.length === 1 ? "this feature" : "these features"}, on average over people. 1
              × is as strong as a feature is ever naturally seen.
            </p>
            <ul class="terms">
              {all.map(({ feature, weight }) => (
                <li key={feature.id}>
                  <a href={address("features", { id: `${feature.id}` })}>{featureName(feature.label, feature.id)}</a>
                  <span>{signed(weight)} ×</span>
                </li>
              ))}
            </ul>
          </section>
        </div>
      )}
    </Answer>
  )
}
