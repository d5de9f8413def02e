// In the page, before its own scripts: moves sliders, and tells when the steered list is painted.

window.measure = (() => {
  const list = () => document.querySelector('ol[aria-label="Steered"]')
  const sliders = () => [...document.querySelectorAll('.slider input[type="range"]')]
  const setValue = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set
  const CHANGES = { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["class"] }
  // A move that changes nothing is over after this.
  const MOST_MS = 1500
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

  function move(slider, value) {
    setValue.call(slider, String(value))
    slider.dispatchEvent(new Event("input", { bubbles: true }))
  }

  // After the next frame: what is posted in the frame is delivered when it has been handed to the screen.
  const painted = () =>
    new Promise((resolve) =>
      requestAnimationFrame(() => {
        const channel = new MessageChannel()
        channel.port1.onmessage = () => resolve(performance.now())
        channel.port2.postMessage(0)
      }),
    )

  const changed = () =>
    new Promise((resolve) => {
      const over = setTimeout(() => (observer.disconnect(), resolve(false)), MOST_MS)
      const observer = new MutationObserver(() => {
        observer.disconnect()
        clearTimeout(over)
        resolve(true)
      })
      observer.observe(list(), CHANGES)
    })

  const calls = () => performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/Recommend"))

  // From one side to the other, so that the list changes.
  const somewhere = (index) => ((index % 2 ? -1 : 1) * (10 + Math.floor(Math.random() * 20))) / 20

  return {
    async moves(count, pauseMs) {
      const [times, callTimes] = [[], []]
      let unchanged = 0
      for (let index = 0; index < count; index++) {
        const all = sliders()
        performance.clearResourceTimings()
        const change = changed()
        const begin = performance.now()
        move(all[index % all.length], somewhere(Math.floor(index / all.length)))
        if (await change) {
          times.push((await painted()) - begin)
          const call = calls()[0]
          if (call) callTimes.push(call.duration)
        } else unchanged += 1
        await pause(pauseMs)
      }
      return [times, callTimes, unchanged]
    },

    // One input a frame, from one end to the other; a frame in which the list changed is a repaint.
    async drag(count) {
      const [slider] = sliders()
      let [changes, repaints] = [false, 0]
      performance.clearResourceTimings()
      const observer = new MutationObserver(() => (changes = true))
      observer.observe(list(), CHANGES)
      const frame = () => new Promise(requestAnimationFrame)
      const look = async () => {
        await frame()
        if (changes) repaints += 1
        changes = false
      }
      const [low, high] = [Number(slider.min), Number(slider.max)]
      const end = low + (high - low) * (0.7 + 0.3 * Math.random())
      for (let index = 0; index < count; index++) {
        move(slider, low + ((end - low) * index) / (count - 1))
        await look()
      }
      // What is still on its way belongs to the drag, until the page rests.
      const until = performance.now() + 200
      while (performance.now() < until) await look()
      observer.disconnect()
      return [repaints, calls().length, Number(slider.value)]
    },

    shown: () => [...list().children].map((row) => row.dataset.id),
  }
})()
