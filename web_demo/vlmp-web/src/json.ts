import { BadBundle, type BundleProblem, oneLine, quoted } from "./errors.js";

/** Counts and ids of a tokenizer are at most 2^24. */
export const MOST = 2 ** 24;

/** One value of a JSON file, with its place for messages. Whatever is not as asked for is refused. */
export class Field {
  constructor(
    private readonly value: unknown,
    private readonly file: string,
    private readonly path: string,
    private readonly problem: BundleProblem,
  ) {}

  /** The root of a JSON text. Throws BadBundle on what is none; `file` is named in messages. */
  static parse(text: string, file: string, problem: BundleProblem): Field {
    try {
      return new Field(JSON.parse(text), file, "", problem);
    } catch (error) {
      throw new BadBundle(problem, `${file} is not JSON: ${oneLine(error)}`, { cause: error });
    }
  }

  /** The same, where what is wrong counts as another kind. */
  raising(problem: BundleProblem): Field {
    return new Field(this.value, this.file, this.path, problem);
  }

  refuse(what: string): never {
    throw new BadBundle(this.problem, `${this.file}: ${this.path || "it"} ${what}`);
  }

  /** Whether a field is there, and not null. */
  has(name: string): boolean {
    return isObject(this.value) && Object.hasOwn(this.value, name) && this.value[name] !== null;
  }

  at(name: string): Field {
    const value = this.object();
    const place = this.path ? `${this.path}.${quoted(name).slice(1, -1)}` : name;
    if (!Object.hasOwn(value, name)) throw new BadBundle(this.problem, `${this.file}: ${place} is missing`);
    return new Field(value[name], this.file, place, this.problem);
  }

  items(): Field[] {
    if (!Array.isArray(this.value)) this.refuse("must be a list");
    return this.value.map((item, number) => new Field(item, this.file, `${this.path}.${number}`, this.problem));
  }

  /** The fields of an object. */
  entries(): [string, Field][] {
    return Object.entries(this.object()).map(([name, value]) => [
      name,
      new Field(value, this.file, `${this.path}.${quoted(name)}`, this.problem),
    ]);
  }

  get isText(): boolean {
    return typeof this.value === "string";
  }

  text(): string {
    return typeof this.value === "string" ? this.value : this.refuse("must be text");
  }

  boolean(): boolean {
    return typeof this.value === "boolean" ? this.value : this.refuse("must be true or false");
  }

  /** A number without a fraction from `least` to `most`. */
  integer(least: number, most = MOST): number {
    const { value } = this;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) {
      this.refuse(`must be a whole number from ${least} to ${most}`);
    }
    return value;
  }

  /** 1 to 2^24. */
  count(): number {
    return this.integer(1);
  }

  integers(least: number, most: number): number[] {
    return this.items().map((item) => item.integer(least, most));
  }

  /** One of `allowed`. */
  choice<Allowed extends string>(...allowed: Allowed[]): Allowed {
    const found = allowed.find((value) => value === this.value);
    return found ?? this.refuse(`must be ${allowed.join(" or ")}`);
  }

  /** Refuses anything but this value, which is plain JSON. */
  mustBe(wanted: unknown): void {
    if (sorted(this.value) !== sorted(wanted)) this.refuse(`must be ${JSON.stringify(wanted)}`);
  }

  /** Refuses a field that is there, unless it says "no": false, empty or null. */
  mustNotHave(name: string): void {
    if (!this.has(name)) return;
    const field = this.at(name);
    if (field.value !== false && field.value !== "") field.refuse("is set, which this reader does not know");
  }

  private object(): Record<string, unknown> {
    return isObject(this.value) ? this.value : this.refuse("must be an object");
  }
}

/** Plain JSON as text, the same in whatever order fields are written. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(byName)) : inner,
  );
}

function byName([one]: [string, unknown], [other]: [string, unknown]): number {
  return one < other ? -1 : 1;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
