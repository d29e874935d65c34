/** Chooses the next token. One goes on through all turns, also of another picture; after `reset` take a new one. */
export interface Sampler {
  /** A token by logits [V], all of them finite. */
  sample(logits: Float32Array): number;
}

/** The first of the largest logits. */
export const GREEDY: Sampler = {
  sample(logits) {
    let best = 0;
    for (let token = 1; token < logits.length; token++) if (logits[token] > logits[best]) best = token;
    return best;
  },
};

/**
 * Draws from the smallest set of likeliest tokens whose shares reach `topP`, 0 to 1. The same seed gives the same answer
 * as in the C++ runner. `temperature` 0 to 100; 0 is greedy. Throws RangeError.
 */
export class Nucleus implements Sampler {
  private readonly random: Mt19937;

  constructor(
    private readonly temperature: number,
    private readonly topP: number,
    seed: bigint,
  ) {
    if (!(temperature >= 0 && temperature <= 100)) throw new RangeError(`temperature ${temperature}: must be 0 to 100`);
    if (!(topP >= 0 && topP <= 1)) throw new RangeError(`topP ${topP}: must be 0 to 1`);
    this.random = new Mt19937(seed);
  }

  sample(logits: Float32Array): number {
    if (this.temperature === 0) return GREEDY.sample(logits);
    const order = falling(logits);
    const top = logits[order[0]];
    const weights = Float64Array.from(order, (token) => Math.exp((logits[token] - top) / this.temperature));
    const share = this.topP * weights.reduce((sum, weight) => sum + weight, 0);
    let nucleus = 0;
    let count = 0;
    while (count < weights.length && (count === 0 || nucleus < share)) nucleus += weights[count++];
    let rest = nucleus * (Number(this.random.next() >> 11n) * 2 ** -53);
    for (let place = 0; place < count; place++) {
      rest -= weights[place];
      if (rest < 0) return order[place];
    }
    return order[count - 1];
  }
}

/** Tokens by their logits, falling; equal ones by id. */
function falling(logits: Float32Array): Uint32Array {
  return Uint32Array.from(logits, (_, token) => token).sort((one, other) => logits[other] - logits[one] || one - other);
}

const SIZE = 312;
const MIDDLE = 156;
const UPPER = 0xffffffff80000000n; // all but the lower 31 bits
const LOWER = 0x7fffffffn;
const MATRIX = 0xb5026f5aa96619e9n;

/** C++'s `mt19937_64`. */
export class Mt19937 {
  private readonly state = new BigUint64Array(SIZE);
  private place = SIZE;

  constructor(seed: bigint) {
    this.state[0] = seed;
    for (let index = 1; index < SIZE; index++) {
      const before = this.state[index - 1];
      this.state[index] = 6364136223846793005n * (before ^ (before >> 62n)) + BigInt(index);
    }
  }

  next(): bigint {
    if (this.place === SIZE) this.refill();
    let value = this.state[this.place++];
    value ^= (value >> 29n) & 0x5555555555555555n;
    value ^= (value << 17n) & 0x71d67fffeda60000n;
    value ^= (value << 37n) & 0xfff7eee000000000n;
    return value ^ (value >> 43n);
  }

  private refill(): void {
    const { state } = this;
    for (let index = 0; index < SIZE; index++) {
      const both = (state[index] & UPPER) | (state[(index + 1) % SIZE] & LOWER);
      state[index] = state[(index + MIDDLE) % SIZE] ^ (both >> 1n) ^ (both & 1n ? MATRIX : 0n);
    }
    this.place = 0;
  }
}
