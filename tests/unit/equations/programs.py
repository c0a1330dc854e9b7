"""Programs whose equations are golden."""

MLP = """
axis i, j : 2
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8]]
ket |u[d]> ~ N(0, 1)
ket |b> ~ N(0, 0.1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 2)
|h1[i]> = sum[d](xi[i,d] |u[d]>)
|x1[i]> = relu(|h1[i]>)
|h2[i]> = W |x1[i]> + |b>
|x2[i]> = tanh(|h2[i]>)
output nngp[i,j] = <x2[i]|x2[j]>
output f[i] = <v|x2[i]>
"""

TIED = """
axis i, j : 2
ket |x[i]> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = W |x[i]>
|c[i]> = tanh(|h[i]>)
|y[i]> = W^T |c[i]>
|z[i]> = tanh(|y[i]>)
|r[i]> = W |z[i]>
output overlap[i,j] = <x[i]|y[j]>
output second[i] = <tanh(r[i])|c[i]>
"""

RNN = """
axis s : 3
matrix W ~ N(0, 1)
ket |a[s]> ~ N(0, 1/2)
|h1> = erf(|a[1]>)
|h2> = erf(W |h1> + |a[2]>)
|h3> = erf(W |h2> + |a[3]>)
output memory = <h2|h3>
output last = <h3|h3>
"""

ATTENTION = """
axis s, t : 2
axis d : 2
data tok[s,d] = [[1.0, 0.3], [-0.4, 0.8]]
ket |e[d]> ~ N(0, 1)
matrix K ~ N(0, 1)
matrix V ~ N(0, 1)
|x[s]> = sum[d](tok[s,d] |e[d]>)
|k[s]> = K |x[s]>
a[s,t] = softmax[t](<k[s]|k[t]>)
|o[s]> = V sum[t](a[s,t] |x[t]>)
output mixed[s,t] = <tanh(o[s])|tanh(o[t])>
"""

OUTER1 = """
ket |x> ~ N(0, 1)
ket |z> ~ N(0, 1)
matrix W ~ N(0, 1)
|g> = W |x>
|y> = E[1](sin(|g> * |z>@1) * |z>@1)
|r> = W^T |y>
output a = <x|r>
"""

OUTER2 = """
ket |x> ~ N(0, 1)
|t> = E[1,2](exp(-(|x> - |x>@1 - |x>@2)^2 / 2))
output b = <t|x>
output c = <t>
"""

WIDTHS = """
width half = 1/2
matrix R : half x n ~ N(0, 3)
ket |v> ~ N(0, 1)
|h> = R |v>
|c> = tanh(|h>)
|b> = R^T |c>
|z> = erf(|b>)
|t> = R |z>
output back = <v|b>
output again = <t|c>
"""

FREE = """
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
S = (W + W^T) / sqrt(2)
output c1 = <v|S^2|v>
output c2 = <v|S^4|v>
output odd = <v|S^3|v>
"""

CLT = """
axis s, t : 2
ket |x[s]> ~ N(0, 1)
matrix Q ~ N(0, 1)
matrix K ~ N(0, 2)
|q[s]> = Q |x[s]>
|k[s]> = K |x[s]>
output logit[s,t] = clt <q[s]|k[t]>
output mup[s,t] = <q[s]|k[t]>
"""

STEP = """
ket |x> ~ N(0, 1)
matrix W ~ N(0, 1)
|h> = W |x>
|c> = sign(|h>)
|y> = W^T |c>
output overlap = <x|y>
output size = <tanh(y)|x>
"""

STEPS = """
ket |x> ~ N(0, 1)
ket |w> ~ N(0, 1)
matrix W ~ N(0, 2)
|y> = |x> + |w>
|a> = W |x>
|b> = W |y>
|c> = step(|a> + 2 |b>)
|r> = W^T |c>
output first = <r|x>
output second = <r|w>
"""

GRADIENT = """
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 1)
|h> = W |u>
|dh> = |v> * tanh'(|h>)
|dx> = W^T |dh>
output sizes = <dx|dx>
"""

NTK = """
axis i, j : 2
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8]]
ket |u[d]> ~ N(0, 1)
ket |b> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
|h1[i]> = sum[d](xi[i,d] |u[d]>)
|x1[i]> = relu(|h1[i]>)
|h2[i]> = sqrt(2) W |x1[i]> + 0.3 |b>
|x2[i]> = relu(|h2[i]>)
f[i] = <v|x2[i]>
output ntk[i,j] = ntk(f[i], f[j])
"""

RNN_NTK = """
axis i, j : 2
axis s : 2
data tok[i,s] = [[0.5, -0.4], [0.9, 0.3]]
ket |u> ~ N(0, 2)
matrix W ~ N(0, 1/2)
ket |v> ~ N(0, 1)
|h[i]> = erf(tok[i,1] |u>)
|h[i]> = erf(W |h[i]> + tok[i,2] |u>)
output ntk[i,j] = ntk(<v|h[i]>, <v|h[j]>)
"""

ADAM = """
axis i : 2
axis d : 2
data xi[i,d] = [[0.9, -0.4], [-0.7, 1.1]]
data y[i] = [1.0, -0.5]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
def mlp(x[d]) {
    |h1> = sum[d](x[d] |u[d]>)
    |x1> = tanh(|h1>)
    |h2> = W |x1>
    return <v|tanh(h2)>
}
train steps = 3 {
    f[i] = mlp(xi[i,d])
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update |u>, W, |v> with Adam(lr = 0.2, beta1 = 0.9, beta2 = 0.99, eps = 0.01)
}
output f[step,i] = mlp(xi[i,d])
output loss[step]
"""

MOMENTUM = """
data s[step] = [-1, -1, 1, -1]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 0.01)
matrix W ~ N(0, 1)
train steps = 3 {
    |h> = W |u>
    f = <v|h>
    loss = (f - s[step])^2 / 2
    minimize loss
    update |u>, W, |v> with SGD(lr = 0.2, momentum = 0.9)
}
output f[step]
output loss[step]
"""

JUMPING = """
axis i : 2
axis l : 2
width m = 2
data xi[i] = [0.9, -0.4]
data y[i] = [1.0, -0.5]
ket |u> ~ N(0, 1)
ket |b> ~ N(0, 0.1)
matrix A[l] ~ N(0, 2)
matrix R : m x n ~ N(0, 1)
ket |v> : m ~ N(0, 1)
train steps = 2 {
    |x[i]> = xi[i] |u>
    for l in 1..2 { |x[i]> = |x[i]> + relu(A[l] |x[i]> + |b>) }
    f[i] = <v|R|x[i]>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update |u>, |v>, |b> with SGD(lr = 0.1 / (1 + step))
    update A with SGD(lr = 0.1, momentum = 0.9, dampening = 0.5)
    update R with SGD(lr = 0.1, weight_decay = 0.01)
}
output f[step,i]
output last[i] = f[i]
"""

SHARED = """
axis d : 2
data xi[d] = [0.9, -0.6]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1/2)
ket |v> ~ N(0, 1)
train steps = 2 {
    |h> = tanh(sum[d](xi[d] |u[d]>))
    |h> = tanh(W |h> + sum[d](xi[d] |u[d]>))
    |h> = erf(W |h>)
    loss = (<v|h> - 0.7)^2 / 2
    minimize loss
    update |u>, |v>, W with SGD(lr = 0.3, momentum = 0.5)
}
output loss[step]
"""

DETAILS = """
axis i : 3
data xi[i] = [0.9, -0.6, 0.4]
data y[i] = [0.7, -0.2, 0.1]
data pick[step] = [1, 3]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1/2)
matrix F ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |h[i]> = tanh(W tanh(F |u> * xi[i]) + |u>)
    f[i] = <v|h[i]>
    loss = (f[pick[step]] - y[pick[step]])^2 / 2
    minimize loss clip 0.3
    update |u>, |v> with SGD(lr = 0.3, nesterov = 1, momentum = 0.5)
    update W with AdamW(lr = 0.2, weight_decay = 0.1, eps = 0.05)
}
output f[step,i]
output size = <v|v>
"""

SCAN = """
axis i : 2
axis t : 4
data x[i,t] = [[0.3, -1, 0.5, 2], [1, 0.8, -0.7, 0.1]]
ket |u> ~ N(0, 1)
ket |c> ~ N(0, 1)
matrix W ~ N(0, 1)

d[i,t] = softplus(x[i,t])
D[i,t] = cumsum[t](d[i,t])
|s[i,t]> = exp(-D[i,t]) * cumsum[t](exp(D[i,t]) * d[i,t] * W |u>)
f[i] = <c|relu(s[i,4])>
|g[i]> = grad(f[i], |u>)
output k[i,t] = <relu(s[i,t])|relu(s[1,2])>
output n[i] = <g[i]|g[1]>
"""

PROGRAMS = {
    "scan": SCAN,
    "mlp": MLP,
    "tied": TIED,
    "rnn": RNN,
    "attention": ATTENTION,
    "outer1": OUTER1,
    "outer2": OUTER2,
    "widths": WIDTHS,
    "free": FREE,
    "clt": CLT,
    "step": STEP,
    "steps": STEPS,
    "gradient": GRADIENT,
    "ntk": NTK,
    "rnn_ntk": RNN_NTK,
    "adam": ADAM,
    "momentum": MOMENTUM,
    "jumping": JUMPING,
    "shared": SHARED,
}
#: Their goldens have formulas beside the expectations.
WITH_FORMULAS = frozenset({"ntk", "rnn_ntk"})
