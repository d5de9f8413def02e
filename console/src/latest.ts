/**
 * One call in flight and the newest one waiting: calls of a drag are neither queued nor aborted, and the last always comes through.
 */
export class Latest<Q, A> {
  private waiting: { question: Q } | undefined
  private busy = false

  constructor(
    private readonly ask: (question: Q) => Promise<A>,
    private readonly answered: (answer: A, question: Q) => void,
    private readonly refused: (error: unknown, question: Q) => void,
  ) {}

  put(question: Q): void {
    this.waiting = { question }
    void this.run()
  }

  private async run(): Promise<void> {
    if (this.busy) return
    this.busy = true
    while (this.waiting) {
      const { question } = this.waiting
      this.waiting = undefined
      try {
        const answer = await this.ask(question)
        this.answered(answer, question)
      } catch (error) {
        this.refused(error, question)
      }
    }
    this.busy = false
  }
}
