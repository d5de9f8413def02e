// The bundles in the folder, side by side.

import { Code } from "@connectrpc/connect"
import { model } from "../../api"
import { useCall } from "../../calls"
import { Answer, Empty } from "../../components/states"
import { count, percent, short } from "../../format"
import type { BundleSummary } from "../../gen/steersman/v1/model_service_pb"
import { date } from "./date"
import { figureName, figureOrder, figureText } from "./figures"

const FIRST_FIGURES =
  /^(test|test_most_popular)\.ndcg_at_10$|^test\.(hr|coverage)_at_10$|^sae\.(test_ndcg_kept|variance_explained|dead)$/

export function Bundles() {
  const call = useCall(async (signal) => {
    try {
      return (await model.listBundles({}, { signal })).bundles
    } catch (error) {
      if ((error as { code?: Code }).code === Code.Unimplemented) return null
      throw error
    }
  }, [])
  return (
    <section class="card" aria-label="Bundles">
      <h2>Bundles in the folder</h2>
      <Answer call={call}>
        {(bundles) =>
          bundles?.length ? (
            <Table bundles={bundles} />
          ) : (
            <Empty title={bundles ? "There are no others" : "This server is older and does not list them"} />
          )
        }
      </Answer>
    </section>
  )
}

function Table({ bundles }: { bundles: BundleSummary[] }) {
  const all = figureOrder(bundles.flatMap(({ figures }) => Object.keys(figures)))
  const first = all.filter((name) => FIRST_FIGURES.test(name))
  const rest = all.filter((name) => !FIRST_FIGURES.test(name))
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Bundles side by side">
      <table class="bundles">
        <thead>
          <tr>
            <td />
            {bundles.map(({ version, created, served }) => (
              <th scope="col" key={version} class="number">
                {date(created)}
                <br />
                <code>{short(version)}</code>
                {served && (
                  <>
                    <br />
                    <span class="chip served">served</span>
                  </>
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          <Row label="Data" bundles={bundles} cell={({ data }) => data} />
          <Row label="Format" bundles={bundles} cell={({ format }) => format} />
          <Row
            label="Features that can be steered"
            bundles={bundles}
            cell={({ steerableFeatures }) => count(steerableFeatures)}
          />
          <Row label="Of them, carried on by the served one" bundles={bundles} cell={carried} />
          <Row
            label="Likeness of those, median"
            bundles={bundles}
            cell={({ carriedFeatures, medianConfidence }) => (carriedFeatures ? percent(medianConfidence) : "–")}
          />
          {first.map((name) => (
            <Figure key={name} name={name} bundles={bundles} />
          ))}
        </tbody>
      </table>
      {rest.length > 0 && (
        <details>
          <summary>All other figures</summary>
          <table class="bundles">
            <caption class="visually-hidden">All other figures</caption>
            <tbody>
              {rest.map((name) => (
                <Figure key={name} name={name} bundles={bundles} />
              ))}
            </tbody>
          </table>
        </details>
      )}
    </div>
  )
}

const carried = ({ carriedFeatures, steerableFeatures, served }: BundleSummary): string => {
  if (served) return "itself"
  return steerableFeatures ? `${percent(carriedFeatures / steerableFeatures)} (${count(carriedFeatures)})` : "–"
}

function Row({
  label,
  bundles,
  cell,
}: {
  label: string
  bundles: BundleSummary[]
  cell: (bundle: BundleSummary) => string
}) {
  return (
    <tr>
      <th scope="row">{label}</th>
      {bundles.map((bundle) => (
        <td key={bundle.version} class="number">
          {cell(bundle)}
        </td>
      ))}
    </tr>
  )
}

function Figure({ name, bundles }: { name: string; bundles: BundleSummary[] }) {
  const text = ({ figures }: BundleSummary) => (figures[name] === undefined ? "–" : figureText(name, figures[name]))
  return <Row label={figureName(name)} bundles={bundles} cell={text} />
}
