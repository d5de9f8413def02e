// What is served, how good it is, and what falls short.

import { features } from "../api"
import type { PageProps } from "../app"
import { useCall } from "../calls"
import { Copy } from "../components/copy"
import { Answer, Empty } from "../components/states"
import { count, percent, plural, short } from "../format"
import type { Feature } from "../gen/steersman/v1/feature_service_pb"
import type { GetModelInfoResponse, Limits } from "../gen/steersman/v1/model_service_pb"
import { useKnown } from "../known"
import { conceptName } from "../target_names"
import { address } from "../route"
import { Bundles } from "./model/bundles"
import { date } from "./model/date"
import { figureName, figureOrder, figureText, raised, shortfalls, splitOf, type Figures } from "./model/figures"
import { Releases } from "./model/releases"
import { AccuracyPlot, EffectPlot, type Point } from "./model/plots"
import "./model.css"

export function ModelPage(_: PageProps) {
  const { info } = useKnown()
  return (
    <>
      <Served info={info} />
      <Releases shown={info.bundleVersion} />
      <div class="pair">
        <Accuracy figures={info.figures} />
        <Shortfalls />
      </div>
      <Effects />
      <Bundles />
    </>
  )
}

function Served({ info }: { info: GetModelInfoResponse }) {
  const { shapes, figures } = info
  const facts: [string, string][] = [
    ["Data", info.data],
    ["Items", count(shapes?.items ?? 0)],
    ["Features", `${count(shapes?.features ?? 0)}, about ${count(shapes?.activeFeatures ?? 0)} active at a time`],
    ["Reads", `the latest ${plural(shapes?.windowLength ?? 0, "event")} of a person`],
    ["Written", date(info.bundleCreated)],
    ["Format", info.bundleFormat],
    ["Computes with", `${info.backend} on ${info.device}`],
    ["Server", info.serverVersion],
  ]
  return (
    <section class="card" aria-label="What is served">
      <div class="card-head">
        <h2>
          Bundle <code>{short(info.bundleVersion)}</code>
        </h2>
        <Copy text={() => info.bundleVersion} label="Copy its whole version" />
      </div>
      <p class="headline">{headline(figures)}</p>
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {info.limits && <LimitsOf limits={info.limits} />}
    </section>
  )
}

function headline(figures: Figures): string {
  const split = splitOf(figures)
  const own = figures[`${split}.ndcg_at_10`]
  const popular = figures[`${split}_most_popular.ndcg_at_10`]
  if (own === undefined || !popular) return "How good it is beside the most popular items was not measured."
  return `It finds what people choose next ${(own / popular).toFixed(1)} times as well as a list of the most popular items (NDCG@10 ${own.toFixed(3)} beside ${popular.toFixed(3)}).`
}

const LIMIT_NAMES: [keyof Limits & string, string][] = [
  ["controls", "Controls of a request"],
  ["goals", "Goals of a request"],
  ["strength", "Largest strength"],
  ["k", "Items of a list"],
  ["historyItems", "Items of a history"],
  ["setItems", "Items of a set that a control names"],
  ["filterItems", "Items in filters"],
  ["filterAttributes", "Conditions on attributes"],
  ["batchRequests", "Requests of a batch"],
  ["eventsPerAppend", "Events of one call"],
  ["sessionEvents", "Events that a session keeps"],
  ["rememberedEventIds", "Event ids that a session remembers"],
  ["scenarios", "Scenarios"],
  ["scenarioBytes", "Bytes of a scenario"],
]

function LimitsOf({ limits }: { limits: Limits }) {
  return (
    <details>
      <summary>What the server takes at most</summary>
      <dl class="facts">
        {LIMIT_NAMES.map(([name, label]) => (
          <div key={name}>
            <dt>{label}</dt>
            <dd>{Number(limits[name]) ? count(Number(limits[name])) : "not told"}</dd>
          </div>
        ))}
      </dl>
    </details>
  )
}

function Accuracy({ figures }: { figures: Figures }) {
  const split = splitOf(figures)
  const sae: [string, string][] = [
    [`sae.${split}_ndcg_kept`, "Accuracy that is left where lists are made from features alone"],
    ["sae.variance_explained", "Variance of the model's state that features explain"],
    ["sae.dead", "Dead features"],
  ]
  return (
    <section class="card" aria-label="Accuracy">
      <h2>Accuracy{split && `, on ${split === "test" ? "test" : "validation"} events`}</h2>
      <AccuracyPlot figures={figures} />
      <h3>The autoencoder that features come from</h3>
      <dl class="facts facts-rows">
        {sae.map(([name, label]) => (
          <div key={name}>
            <dt>{label}</dt>
            <dd>{figures[name] === undefined ? "not measured" : figureText(name, figures[name])}</dd>
          </div>
        ))}
      </dl>
      <details>
        <summary>All figures</summary>
        <table>
          <caption class="visually-hidden">All figures of the evaluation</caption>
          <tbody>
            {figureOrder(Object.keys(figures)).map((name) => (
              <tr key={name}>
                <th scope="row">{figureName(name)}</th>
                <td class="number">{figureText(name, figures[name]!)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </section>
  )
}

const MOST_FEATURES = 10_000

async function allFeatures(signal: AbortSignal): Promise<Feature[]> {
  const found: Feature[] = []
  let pageToken = ""
  do {
    const page = await features.listFeatures({ includeRare: true, pageSize: 1000, pageToken }, { signal })
    found.push(...page.features)
    pageToken = page.nextPageToken
  } while (pageToken && found.length < MOST_FEATURES)
  return found
}

function Shortfalls() {
  const known = useKnown()
  const call = useCall(allFeatures, [known.info.bundleVersion])
  return (
    <section class="card" aria-label="What falls short">
      <h2>What falls short</h2>
      <Answer call={call} lines={8}>
        {(found) => {
          const { figures } = known.info
          const nameOf = ({ name }: { name: string }) => conceptName(known, name)
          const told = shortfalls({ figures, concepts: known.concepts, features: found, nameOf })
          if (!told.length) return <Empty title="Nothing that its figures show" />
          return (
            <ul class="shortfalls">
              {told.map(({ title, text }) => (
                <li key={title}>
                  <strong>{title}</strong>
                  <p>{text}</p>
                </li>
              ))}
            </ul>
          )
        }}
      </Answer>
      <p class="note">Computed from the figures and the catalogue of this bundle.</p>
    </section>
  )
}

function Effects() {
  const known = useKnown()
  const points = known.concepts.flatMap((concept): Point[] => {
    const more = raised(concept)
    if (more === undefined) return []
    const { name, effect, beyondNatural } = concept
    return [{ name, label: conceptName(known, name), raised: more, kept: effect?.ndcgKept ?? 0, beyond: beyondNatural }]
  })
  return (
    <section class="card" aria-label="What concepts do and cost">
      <h2>What concepts do, and what it costs</h2>
      {points.length ? (
        <>
          <p class="muted">
            Each dot is a concept at strength 1, on average over people it was not trained on. Far right: the list has
            more of it. High up: it still finds what people choose. <span class="beyond-key">Ringed</span>: it asks its
            features for more than is natural.
          </p>
          <EffectPlot points={points} />
          <details>
            <summary>The same as a table</summary>
            <EffectTable points={points} />
          </details>
        </>
      ) : (
        <Empty title="Effects were not measured" />
      )}
    </section>
  )
}

function EffectTable({ points }: { points: Point[] }) {
  return (
    <table>
      <caption class="visually-hidden">What concepts do at strength 1, and what it costs</caption>
      <thead>
        <tr>
          <th scope="col">Concept</th>
          <th scope="col" class="number">
            More in the list
          </th>
          <th scope="col" class="number">
            Accuracy kept
          </th>
        </tr>
      </thead>
      <tbody>
        {[...points]
          .sort((one, other) => other.raised - one.raised)
          .map(({ name, label, raised, kept, beyond }) => (
            <tr key={name}>
              <th scope="row">
                <a href={address("concepts", { name })}>{label}</a>
                {beyond && <small> beyond what is natural</small>}
              </th>
              <td class="number">{percent(raised)}</td>
              <td class="number">{percent(kept)}</td>
            </tr>
          ))}
      </tbody>
    </table>
  )
}
