"use strict";
/* Gradient descent of the line w x + b by the mean squared error, with the updates of torch's SGD, and the theory of
   gd_lightning.theory for one feature: where it is stable, where it settles, and which loss is to be expected.

   Letters: N samples, B samples per update. In the whitened error d = L'(theta - theta*), with (x, 1) = L z and
   z = ((x - mean) / sd, 1), the loss above the least squares is |d|^2, and an update moves d by -lr P g, P = L'L and g the
   mean of 2 z (z'd - e) over the batch. */

function lineLoss(x, y) {
  const n = x.length;
  const mean = values => values.reduce((sum, value) => sum + value, 0) / n;
  const meanX = mean(x), meanY = mean(y);
  const sxx = mean(x.map(value => (value - meanX) ** 2));
  const w = mean(x.map((value, i) => (value - meanX) * (y[i] - meanY))) / sxx;
  const b = meanY - w * meanX;
  const residuals = x.map((value, i) => y[i] - meanY - w * (value - meanX));
  const least = mean(residuals.map(value => value * value));
  const trace = sxx + meanX * meanX + 1;
  const largest = (trace + Math.sqrt(trace * trace - 4 * sxx)) / 2;
  return {
    mean: meanX, sd: Math.sqrt(sxx), w, b, least, residuals,
    constant: mean(y.map(value => (value - meanY) ** 2)),
    lambdaMax: 2 * largest, lambdaMin: 2 * sxx / largest,
    white(atW, atB) { return [this.sd * (atW - w), meanX * (atW - w) + (atB - b)]; },
    excess(atW, atB) { const [first, second] = this.white(atW, atB); return first * first + second * second; },
  };
}

/* The order of samples of an epoch: that of fit where the page holds it, else drawn here. */
function orderOf(problem, settings, epoch) {
  const n = problem.x.length;
  if (settings.order === "sequential") return Array.from({length: n}, (_, i) => i);
  const given = settings.seed === problem.seed ? problem.orders[settings.order][epoch] : undefined;
  if (given !== undefined) return given;
  const draw = generator(settings.seed, epoch);
  if (settings.order === "with_replacement") return Array.from({length: n}, () => Math.floor(draw() * n));
  const order = Array.from({length: n}, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/* Uniform numbers in [0, 1). Source: Tommy Ettinger's Mulberry32, in the public domain. */
function generator(seed, epoch) {
  let state = (Math.imul(seed + 1, 0x9E3779B1) ^ Math.imul(epoch + 1, 0x85EBCA77)) >>> 0;
  return () => {
    state = (state + 0x6D2B79F5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/* The batches of an epoch, as [how many, of which size]. */
function batchesOf(n, settings) {
  const whole = Math.floor(n / settings.batchSize), rest = n % settings.batchSize;
  return rest > 0 && !settings.dropLast ? [[whole, settings.batchSize], [1, rest]] : [[whole, settings.batchSize]];
}

const isWhole = (n, settings) => settings.batchSize === n && settings.order !== "with_replacement";

/* Train; returns the parameters before the first update and after every update, or every k-th of many. */
function descend(problem, loss, settings, most = 6000) {
  const {x, y} = problem, n = x.length, {lr, momentum, nesterov, batchSize} = settings;
  const perEpoch = batchesOf(n, settings).reduce((sum, [count]) => sum + count, 0);
  const every = Math.ceil(perEpoch * settings.epochs / most);
  const path = {update: [0], samples: [0], w: [settings.w], b: [settings.b], loss: [], diverged: false};
  let {w, b} = settings, velocityW = 0, velocityB = 0, update = 0, samples = 0;
  const first = loss.least + loss.excess(w, b);
  path.loss.push(first);
  for (let epoch = 0; epoch < settings.epochs && !path.diverged; epoch++) {
    const order = orderOf(problem, settings, epoch);
    for (let batch = 0; batch < perEpoch; batch++) {
      const from = batch * batchSize, to = Math.min(from + batchSize, n);
      let gradientW = 0, gradientB = 0;
      for (let k = from; k < to; k++) {
        const i = order[k], wrong = w * x[i] + b - y[i];
        gradientW += wrong * x[i];
        gradientB += wrong;
      }
      gradientW *= 2 / (to - from);
      gradientB *= 2 / (to - from);
      velocityW = momentum * velocityW + gradientW;
      velocityB = momentum * velocityB + gradientB;
      w -= lr * (nesterov ? gradientW + momentum * velocityW : velocityW);
      b -= lr * (nesterov ? gradientB + momentum * velocityB : velocityB);
      update += 1;
      samples += to - from;
      const now = loss.least + loss.excess(w, b);
      path.diverged = !Number.isFinite(now) || now > problem.divergenceFactor * first;
      const isLast = epoch === settings.epochs - 1 && batch === perEpoch - 1;
      if (update % every === 0 || isLast || path.diverged) {
        for (const [name, value] of Object.entries({update, samples, w, b, loss: now})) path[name].push(value);
      }
      if (path.diverged) break;
    }
  }
  return path;
}

/* Square matrices, row by row. */
function product(a, b, n) {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const factor = a[i * n + k];
      if (factor !== 0) for (let j = 0; j < n; j++) out[i * n + j] += factor * b[k * n + j];
    }
  }
  return out;
}

function identity(n) {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  return out;
}

function power(matrix, exponent, n) {
  let out = identity(n), square = matrix;
  for (let left = exponent; left > 0; left = Math.floor(left / 2)) {
    if (left % 2) out = product(square, out, n);
    square = product(square, square, n);
  }
  return out;
}

/* The spectral radius, by Gelfand's formula: the 2^k-th root of the size of the 2^k-th power. */
function radius(matrix, n) {
  let logarithm = 0, weight = 1, current = matrix;
  for (let k = 0; k < 40; k++) {
    const size = current.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (size === 0) return 0;
    if (!Number.isFinite(size)) return Infinity;
    logarithm += weight * Math.log(size);
    current = current.map(value => value / size);
    current = product(current, current, n);
    weight /= 2;
  }
  return Math.exp(logarithm);
}

/* Solve matrix * unknown = right, by elimination with pivots. */
function solve(matrix, right, n) {
  const a = Float64Array.from(matrix), found = Float64Array.from(right);
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let i = column + 1; i < n; i++) {
      if (Math.abs(a[i * n + column]) > Math.abs(a[pivot * n + column])) pivot = i;
    }
    for (let j = 0; j < n; j++) {
      [a[column * n + j], a[pivot * n + j]] = [a[pivot * n + j], a[column * n + j]];
    }
    [found[column], found[pivot]] = [found[pivot], found[column]];
    for (let i = column + 1; i < n; i++) {
      const factor = a[i * n + column] / a[column * n + column];
      for (let j = column; j < n; j++) a[i * n + j] -= factor * a[column * n + j];
      found[i] -= factor * found[column];
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let j = i + 1; j < n; j++) found[i] -= a[i * n + j] * found[j];
    found[i] /= a[i * n + i];
  }
  return found;
}

/* Second moments of (error, velocity), each of two numbers: 10 entries of a symmetric matrix, 4 means, and a 1. */
const PAIRS = [0, 1, 2, 3].flatMap(i => [0, 1, 2, 3].filter(j => j >= i).map(j => [i, j]));
const SECOND = PAIRS.length, STATE = SECOND + 5;

class Theory {
  constructor(problem, loss) {
    this.problem = problem;
    this.loss = loss;
    const {mean, sd, residuals} = loss, n = problem.x.length;
    const u = problem.x.map(value => (value - mean) / sd);
    const moment = (k, j) => u.reduce((sum, value, i) => sum + value ** k * residuals[i] ** j, 0) / n;
    this.of = [0, 1, 2].map(j => [0, 1, 2, 3, 4].map(k => moment(k, j)));
    this.z = u;
    this.metric = [[sd * sd, sd * mean], [sd * mean, mean * mean + 1]];
    this.limits = new Map();
  }

  /* The variance of a batch's mean in units of one sample's, for samples drawn with replacement. */
  static spread(size) { return 1 / size; }

  /* How an update moves (error, velocity) on average, 4 x 4, and by the noise of the gradient, 4 x 2. */
  maps({lr, momentum, nesterov}) {
    const step = nesterov ? 1 + momentum : 1, moved = nesterov ? momentum * momentum : momentum;
    const a = identity(4), kick = new Float64Array(8);
    for (let i = 0; i < 2; i++) {
      for (let j = 0; j < 2; j++) {
        const along = lr * this.metric[i][j];
        a[i * 4 + j] -= 2 * step * along;
        a[i * 4 + 2 + j] = -moved * along;
        kick[i * 2 + j] = -step * along;
      }
      a[(2 + i) * 4 + i] = 2;
      a[(2 + i) * 4 + 2 + i] = momentum;
      kick[(2 + i) * 2 + i] = 1;
    }
    return {a, kick};
  }

  /* The covariance of the gradient of one sample. */
  noise(second, means, constant) {
    const [plain, once, twice] = this.of, [m0, m1] = means;
    const at = k => 4 * (second[0] * plain[k + 2] + 2 * second[1] * plain[k + 1] + second[5] * plain[k]
      - 2 * (m0 * once[k + 1] + m1 * once[k]) + constant * twice[k]);
    return [at(2) - 4 * second[0], at(1) - 4 * second[1], at(0) - 4 * second[5]];
  }

  /* The map of a state by an update with a batch of this spread, STATE x STATE. */
  update(rule, spread) {
    const {a, kick} = this.maps(rule), out = new Float64Array(STATE * STATE);
    for (let column = 0; column < STATE; column++) {
      const second = new Float64Array(16), means = new Float64Array(4), constant = column === STATE - 1 ? 1 : 0;
      if (column < SECOND) {
        const [i, j] = PAIRS[column];
        second[i * 4 + j] = second[j * 4 + i] = 1;
      } else if (!constant) means[column - SECOND] = 1;
      const moved = new Float64Array(16), half = product(a, second, 4);
      for (let i = 0; i < 4; i++) {
        for (let j = 0; j < 4; j++) for (let k = 0; k < 4; k++) moved[i * 4 + j] += half[i * 4 + k] * a[j * 4 + k];
      }
      if (spread > 0) {
        const [q00, q01, q11] = this.noise(second, means, constant);
        for (let i = 0; i < 4; i++) {
          for (let j = 0; j < 4; j++) {
            const [i0, i1, j0, j1] = [kick[i * 2], kick[i * 2 + 1], kick[j * 2], kick[j * 2 + 1]];
            moved[i * 4 + j] += spread * (i0 * q00 * j0 + q01 * (i0 * j1 + i1 * j0) + i1 * q11 * j1);
          }
        }
      }
      PAIRS.forEach(([i, j], row) => { out[row * STATE + column] = moved[i * 4 + j]; });
      for (let i = 0; i < 4; i++) {
        for (let k = 0; k < 4; k++) out[(SECOND + i) * STATE + column] += a[i * 4 + k] * means[k];
      }
      if (constant) out[STATE * STATE - 1] = 1;
    }
    return out;
  }

  /* The part of a map that takes second moments to second moments: it says what is stable. */
  static secondPart(map) {
    const part = new Float64Array(SECOND * SECOND);
    for (let i = 0; i < SECOND; i++) for (let j = 0; j < SECOND; j++) part[i * SECOND + j] = map[i * STATE + j];
    return part;
  }

  /* The largest stable learning rate of a batch size. */
  limit(settings, bisections = 42) {
    const {batchSize, momentum, nesterov} = settings;
    const ofMean = 2 * (1 + momentum) / ((nesterov ? 1 + 2 * momentum : 1) * this.loss.lambdaMax);
    if (isWhole(this.problem.x.length, settings)) return ofMean;
    const key = [batchSize, momentum, nesterov, bisections].join();
    if (!this.limits.has(key)) {
      let low = 0, high = ofMean;
      for (let k = 0; k < bisections; k++) {
        const lr = (low + high) / 2;
        const map = this.update({lr, momentum, nesterov}, Theory.spread(batchSize));
        if (radius(Theory.secondPart(map), SECOND) < 1) low = lr; else high = lr;
      }
      this.limits.set(key, (low + high) / 2);
    }
    return this.limits.get(key);
  }

  /* The excess loss at which the run is close enough to the least squares, as plan has it. */
  target(start) {
    const {least, constant} = this.loss, scale = constant > 1e-28 * start ? constant : start;
    return least > 1e-6 * scale ? 0.01 * least : Math.max(1e-4 * scale, 2.2250738585072014e-308);
  }

  /* What becomes of a run: limit, floor, epochs to the target, the expected losses of its epochs, and a verdict. */
  outcome(settings) {
    const n = this.problem.x.length, limit = this.limit(settings);
    const excess = this.loss.excess(settings.w, settings.b), target = this.target(excess);
    const follow = settings.order === "sequential" && !isWhole(n, settings)
      ? this.sequential(settings) : this.drawn(settings, limit);
    const bearable = Math.max(excess, this.loss.constant - this.loss.least, target);
    const floor = follow.isExact && !(follow.floor < bearable) ? Infinity : follow.floor;
    const {losses, epochs} = this.losses(follow, settings, floor > target ? settings.epochs : 10000, target);
    const reached = floor > target ? Infinity : epochs;
    let verdict = "diverges";
    if (floor < Infinity) {
      verdict = floor > target ? "reaches its floor" : reached <= settings.epochs ? "converges" : "slow";
    }
    return {limit, floor, target, epochs: reached, losses, verdict};
  }

  /* The expected excess after each epoch of the run, and after how many it stays at or below the target. */
  losses(follow, settings, horizon, target) {
    const losses = [];
    let state = follow.start, lastAbove = -1;
    for (let epoch = 0; epoch <= horizon; epoch++) {
      const excess = follow.excess(state);
      if (epoch <= settings.epochs) losses.push(this.loss.least + excess);
      if (!(excess <= target)) lastAbove = epoch;
      if (!Number.isFinite(excess)) break;
      state = follow.next(state);
    }
    return {losses, epochs: lastAbove >= horizon ? Infinity : lastAbove + 1};
  }

  drawn(settings, limit) {
    const n = this.problem.x.length, whole = isWhole(n, settings);
    let epoch = identity(STATE);
    for (const [count, size] of batchesOf(n, settings)) {
      const update = this.update(settings, whole ? 0 : Theory.spread(size));
      epoch = product(power(update, count, STATE), epoch, STATE);
    }
    const isStable = whole ? settings.lr < limit : radius(Theory.secondPart(epoch), SECOND) < 1;
    const start = new Float64Array(STATE), error = [...this.loss.white(settings.w, settings.b), 0, 0];
    PAIRS.forEach(([i, j], row) => { start[row] = error[i] * error[j]; });
    start.set(error, SECOND);
    start[STATE - 1] = 1;
    const excess = state => state[0] + state[4];
    let floor = isStable ? 0 : Infinity;
    if (isStable && !whole) {
      const size = STATE - 1, left = identity(size), right = new Float64Array(size);
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) left[i * size + j] -= epoch[i * STATE + j];
        right[i] = epoch[i * STATE + size];
      }
      floor = Math.max(0, excess(solve(left, right, size)));
    }
    const next = state => state.map((_, i) => {
      let sum = 0;
      for (let j = 0; j < STATE; j++) sum += epoch[i * STATE + j] * state[j];
      return sum;
    });
    return {start, excess, next, floor, isExact: false};
  }

  /* An epoch in the order of the samples as one affine map of (error, velocity). */
  sequential(settings) {
    const {lr, momentum, nesterov, batchSize} = settings, n = this.problem.x.length;
    const perEpoch = batchesOf(n, settings).reduce((sum, [count]) => sum + count, 0);
    const {residuals} = this.loss, z = this.z, metric = this.metric;
    const carried = (state, strength) => {
      let [d0, d1, v0, v1] = state;
      for (let batch = 0; batch < perEpoch; batch++) {
        const from = batch * batchSize, to = Math.min(from + batchSize, n);
        let g0 = 0, g1 = 0;
        for (let i = from; i < to; i++) {
          const wrong = 2 * (z[i] * d0 + d1 - strength * residuals[i]) / (to - from);
          g0 += wrong * z[i];
          g1 += wrong;
        }
        v0 = momentum * v0 + g0;
        v1 = momentum * v1 + g1;
        const [s0, s1] = nesterov ? [g0 + momentum * v0, g1 + momentum * v1] : [v0, v1];
        d0 -= lr * (metric[0][0] * s0 + metric[0][1] * s1);
        d1 -= lr * (metric[1][0] * s0 + metric[1][1] * s1);
      }
      return [d0, d1, v0, v1];
    };
    const columns = [0, 1, 2, 3].map(j => carried([0, 1, 2, 3].map(i => Number(i === j)), 0));
    const matrix = new Float64Array(16), left = identity(4), shift = carried([0, 0, 0, 0], 1);
    columns.forEach((column, j) => column.forEach((value, i) => { matrix[i * 4 + j] = value; }));
    matrix.forEach((value, i) => { left[i] -= value; });
    const excess = state => state[0] * state[0] + state[1] * state[1];
    const next = state => shift.map((value, i) => state.reduce((sum, each, j) => sum + matrix[i * 4 + j] * each, value));
    const floor = radius(matrix, 4) < 1 ? excess(solve(left, shift, 4)) : Infinity;
    return {start: [...this.loss.white(settings.w, settings.b), 0, 0], excess, next, floor, isExact: true};
  }
}
