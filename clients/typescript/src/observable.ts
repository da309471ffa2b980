/*
 * The two small means of telling the application something: a value that changes, and named events.
 * Both isolate handlers: one that throws is reported and the others still run.
 */

/** A value that changes. `subscribe` calls at once with the present value (the store contract of Svelte, fit for React's `useSyncExternalStore`). */
export interface Observable<T> {
  get(): T;
  /** Returns the function that ends it. */
  subscribe(listener: (value: T) => void): () => void;
}

export type Report = (error: unknown) => void;

export function guarded<A extends unknown[]>(report: Report, run: (...args: A) => void, ...args: A): void {
  try {
    run(...args);
  } catch (error) {
    report(error);
  }
}

export class Emitter<Events> {
  private readonly listeners = new Map<keyof Events, Set<(event: never) => void>>();

  constructor(private readonly report: Report) {}

  on<E extends keyof Events>(name: E, run: (event: Events[E]) => void): () => void {
    const listener = (event: Events[E]): void => run(event);
    const set = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, set.add(listener));
    return () => void set.delete(listener);
  }

  emit<E extends keyof Events>(name: E, event: Events[E]): void {
    for (const run of [...(this.listeners.get(name) ?? [])]) guarded(this.report, run as (event: Events[E]) => void, event);
  }
}

export class Value<T> implements Observable<T> {
  private readonly told: Emitter<{ value: T }>;

  constructor(private value: T, private readonly report: Report) {
    this.told = new Emitter(report);
  }

  get(): T {
    return this.value;
  }

  set(value: T): void {
    this.value = value;
    this.told.emit("value", value);
  }

  subscribe(run: (value: T) => void): () => void {
    const end = this.told.on("value", run);
    guarded(this.report, run, this.value);
    return end;
  }
}
