"""Circuits of gates: read off a Boolean threshold network, simplified, printed, written as BLIF or Verilog.

A neuron whose norm is spread over few weights depends on few inputs. How few is decided exactly: of weights sorted by
size, those are left out whose sum never outweighs what the others leave.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .wiring import Wiring

MOST_INPUTS = 12  # of a gate: its truth table is listed


@dataclass(frozen=True)
class Gate:
    """One output of a few inputs.

    Attributes:
        name: of its signal.
        inputs: names of signals, different ones.
        table: the output for every row of inputs, the first input most significant, 2^len(inputs) entries.
    """

    name: str
    inputs: tuple[str, ...]
    table: tuple[bool, ...]

    @property
    def negated(self) -> tuple[bool, ...]:
        """Which inputs pull the output down: of threshold functions every input pulls one way."""
        shaped = np.array(self.table).reshape((2,) * len(self.inputs))
        return tuple(bool((shaped.take(0, axis) & ~shaped.take(1, axis)).any()) for axis in range(len(self.inputs)))

    @property
    def products(self) -> list[tuple[int, ...]]:
        """Smallest sets of inputs (by place) whose literals together make the output true."""
        down = self.negated
        holds = np.array(self.table).reshape((2,) * len(self.inputs))
        found = []
        for literals in product((0, 1), repeat=len(self.inputs)):
            row = tuple(lit ^ neg for lit, neg in zip(literals, down, strict=True))
            if not holds[row]:
                continue
            lesser = (
                (*row[:place], 1 - row[place], *row[place + 1 :]) for place, literal in enumerate(literals) if literal
            )
            if not any(holds[other] for other in lesser):
                found.append(tuple(place for place, literal in enumerate(literals) if literal))
        return found

    @property
    def kind(self) -> str:
        """CONSTANT, COPY, NOT, AND, OR, MAJORITY, `k OF n`, or THRESHOLD."""
        n = len(self.inputs)
        if n == 0:
            return "CONSTANT"
        if n == 1:
            return "NOT" if self.negated[0] else "COPY"
        terms = self.products
        sizes = {len(term) for term in terms}
        if len(sizes) == 1:
            (k,) = sizes
            count = 1
            for i in range(k):
                count = count * (n - i) // (i + 1)
            if len(terms) == count:
                return "AND" if k == n else "OR" if k == 1 else "MAJORITY" if 2 * k == n + 1 else f"{k} OF {n}"
        return "THRESHOLD"

    @property
    def expression(self) -> str:
        """In words: `a AND NOT b`."""
        literals = [("NOT " if neg else "") + name for name, neg in zip(self.inputs, self.negated, strict=True)]
        kind = self.kind
        if kind == "CONSTANT":
            return "1" if self.table[0] else "0"
        if kind in ("COPY", "NOT"):
            return literals[0]
        if kind in ("AND", "OR"):
            return f" {kind} ".join(literals)
        if kind == "THRESHOLD":
            terms = [" AND ".join(literals[place] for place in term) for term in self.products]
            return " OR ".join(f"({term})" if " AND " in term else term for term in terms)
        return f"{kind}({', '.join(literals)})"


@dataclass(frozen=True)
class LogicCircuit:
    """Gates in an order in which they can be evaluated.

    Attributes:
        inputs: names of the input signals.
        outputs: output name -> the signal that it shows.
        gates: the gates.
    """

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    gates: tuple[Gate, ...]

    def evaluate(self, bits: Any) -> np.ndarray:
        """Output bits (rows, outputs) of input bits (rows, inputs), bool."""
        bits = np.asarray(bits).astype(bool)
        if bits.ndim != 2 or bits.shape[1] != len(self.inputs):
            raise ValueError(f"bits: expected shape (rows, {len(self.inputs)}), given {bits.shape}")
        signals = {name: bits[:, place] for place, name in enumerate(self.inputs)}
        for gate in self.gates:
            row = np.zeros(len(bits), int)
            for name in gate.inputs:
                row = 2 * row + signals[name]
            signals[gate.name] = np.array(gate.table)[row]
        columns = [signals[signal] for signal in self.outputs.values()]
        return np.stack(columns, 1) if columns else np.zeros((len(bits), 0), bool)

    def simplified(self) -> "LogicCircuit":
        """The same function with copies, negations and constants taken up by what reads them, equal gates merged, and
        gates left out that no output depends on."""
        stands: dict[str, tuple[str, bool] | bool] = {name: (name, False) for name in self.inputs}
        kept: dict[tuple[tuple[str, ...], tuple[bool, ...]], str] = {}
        gates: dict[str, Gate] = {}
        for gate in self.gates:
            parts = [stands[name] for name in gate.inputs]
            names: Sequence[str] = sorted({part[0] for part in parts if not isinstance(part, bool)})
            table = []
            for row in product((False, True), repeat=len(names)):
                value = dict(zip(names, row, strict=True))
                index = 0
                for part in parts:
                    index = 2 * index + (part if isinstance(part, bool) else value[part[0]] ^ part[1])
                table.append(gate.table[index])
            names, table = needed(names, table)
            if not names:
                stands[gate.name] = table[0]
            elif len(names) == 1:
                stands[gate.name] = (names[0], table[0])
            elif (key := (tuple(names), tuple(table))) in kept:
                stands[gate.name] = (kept[key], False)
            elif (key := (tuple(names), tuple(not value for value in table))) in kept:
                stands[gate.name] = (kept[key], True)
            else:
                kept[tuple(names), tuple(table)] = gate.name
                gates[gate.name] = Gate(gate.name, tuple(names), tuple(table))
                stands[gate.name] = (gate.name, False)
        outputs: dict[str, str] = {}
        last: dict[str, Gate] = {}
        for output, signal in self.outputs.items():
            found = stands[signal]
            if isinstance(found, bool):
                last[signal] = Gate(signal, (), (found,))
                outputs[output] = signal
            elif found[1]:  # the gate's complement in the output's own name, rather than a NOT behind it
                name, base = output, gates.get(found[0])
                while name in self.inputs or name in gates or name in last:
                    name += "_"
                seen, table = (base.inputs, base.table) if base else ((found[0],), (False, True))
                last[name] = Gate(name, seen, tuple(not value for value in table))
                outputs[output] = name
            else:
                outputs[output] = found[0]
        everything = {**gates, **last}
        wanted: set[str] = set()
        queue = list(outputs.values())
        while queue:
            name = queue.pop()
            if name in everything and name not in wanted:
                wanted.add(name)
                queue += everything[name].inputs
        return LogicCircuit(self.inputs, outputs, tuple(g for name, g in everything.items() if name in wanted))

    def __str__(self) -> str:
        lines = [f"{gate.name} = {gate.expression}" for gate in self.gates]
        return "\n".join([*lines, *(f"{out} = {signal}" for out, signal in self.outputs.items() if out != signal)])

    def to_blif(self, model: str = "network") -> str:
        """As BLIF, which logic synthesis reads (ABC, Yosys, SIS)."""
        names, ports = self._identifiers()
        ins = " ".join(names[name] for name in self.inputs)
        outs = " ".join(ports.values())
        lines = [f".model {_identifier(model)}", f".inputs {ins}", f".outputs {outs}"]
        for gate in self.gates:
            lines.append(".names " + " ".join([*(names[name] for name in gate.inputs), names[gate.name]]))
            down = gate.negated
            for term in gate.products:
                row = "".join(
                    ("0" if down[place] else "1") if place in term else "-" for place in range(len(gate.inputs))
                )
                lines.append(f"{row} 1".strip())
        for output, signal in self.outputs.items():
            if ports[output] != names[signal]:
                lines += [f".names {names[signal]} {ports[output]}", "1 1"]
        return "\n".join([*lines, ".end", ""])

    def to_verilog(self, module: str = "network") -> str:
        """As a Verilog module of continuous assignments."""
        names, ports = self._identifiers()
        listed = [f"  input wire {names[name]}" for name in self.inputs]
        listed += [f"  output wire {port}" for port in ports.values()]
        lines = [f"module {_identifier(module)} (", ",\n".join(listed), ");"]
        for gate in self.gates:
            literals = [("~" if n else "") + names[name] for name, n in zip(gate.inputs, gate.negated, strict=True)]
            terms = [" & ".join(literals[place] for place in term) for term in gate.products]
            if not gate.inputs:
                terms = ["1'b1" if gate.table[0] else "1'b0"]
            text = terms[0] if len(terms) == 1 else " | ".join(f"({term})" for term in terms)
            wire = "assign" if names[gate.name] in ports.values() else "wire"
            lines.append(f"  {wire} {names[gate.name]} = {text};")
        for output, signal in self.outputs.items():
            if ports[output] != names[signal]:
                lines.append(f"  assign {ports[output]} = {names[signal]};")
        return "\n".join([*lines, "endmodule", ""])

    def _identifiers(self) -> tuple[dict[str, str], dict[str, str]]:
        """What signals, and what output ports, are called where names are letters, digits and underscores only; an
        output whose own gate it shows needs no second name."""
        taken: set[str] = set()

        def fresh(text: str) -> str:
            name = _identifier(text)
            while name in taken:
                name += "_"
            taken.add(name)
            return name

        signals = {name: fresh(name) for name in (*self.inputs, *(gate.name for gate in self.gates))}
        own = {gate.name for gate in self.gates}
        return signals, {name: signals[name] if name in own else fresh(name) for name in self.outputs}

    def drawing(self) -> dict[str, Any]:
        """What the picture kind `network` draws: nodes with a column, edges that say whether they negate."""
        depth = dict.fromkeys(self.inputs, 0)
        for gate in self.gates:
            depth[gate.name] = 1 + max((depth[name] for name in gate.inputs), default=0)
        last = max(depth.values(), default=0) + 1
        nodes = [{"name": name, "label": name, "column": 0} for name in self.inputs]
        nodes += [{"name": g.name, "label": _short(g.kind), "column": depth[g.name]} for g in self.gates]
        edges = [
            {"from": name, "to": gate.name, "negated": down}
            for gate in self.gates
            for name, down in zip(gate.inputs, gate.negated, strict=True)
        ]
        for output, signal in self.outputs.items():
            nodes.append({"name": f"output {output}", "label": output, "column": last})
            edges.append({"from": signal, "to": f"output {output}", "negated": False})
        return {"nodes": nodes, "edges": edges}


def _short(kind: str) -> str:
    return {"MAJORITY": "MAJ", "THRESHOLD": "THR", "CONSTANT": "CONST"}.get(kind, kind)


def needed(names: Sequence[str], table: Sequence[bool]) -> tuple[list[str], list[bool]]:
    """Inputs that a truth table depends on, and the table over them."""
    shaped, kept = np.array(table, bool).reshape((2,) * len(names)), list(names)
    for axis in reversed(range(len(names))):
        if (shaped.take(0, axis) == shaped.take(1, axis)).all():
            shaped = shaped.take(0, axis)
            del kept[axis]
    return kept, [bool(value) for value in shaped.reshape(-1)]


def neuron_gate(name: str, weights: Sequence[float], inputs: Sequence[str], constant: float = 0.0) -> Gate:
    """The gate of a neuron: 1 where the sum of weights times inputs -1 / 1, plus a constant, is above 0.

    Raises:
        ValueError: it depends on more than `MOST_INPUTS` inputs.
    """
    w = np.asarray(weights, float)
    order = np.argsort(-np.abs(w), kind="stable")
    for k in range(min(len(w), MOST_INPUTS) + 1):
        head, rest = w[order[:k]], np.abs(w[order[k:]]).sum()
        rows = np.array(list(product((-1.0, 1.0), repeat=k))).reshape(2**k, k)
        sums = rows @ head + constant
        if rest == 0 or (np.abs(sums) > rest * (1 + 1e-12)).all():
            names, table = needed([str(inputs[int(place)]) for place in order[:k]], (sums > 0).tolist())
            return Gate(name, tuple(names), tuple(table))
    raise ValueError(
        f"neuron {name} depends on more than {MOST_INPUTS} inputs, too many to list as a gate: its weights are not "
        "sparse. Search longer, or with a smaller sigma, which asks for larger margins and so for fewer inputs."
    )


def circuit_of(
    wiring: Wiring,
    weights: Sequence[float],
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> LogicCircuit:
    """The circuit that a network computes on inputs -1 and 1, a gate a neuron.

    Args:
        weights: (edges,), in the wiring's order.
        inputs, outputs: their names; default: x1, x2, ... and y1, y2, ...
    """
    ins = list(inputs or [f"x{number}" for number in range(1, wiring.n_inputs + 1)])
    outs = list(outputs or [f"y{number}" for number in range(1, wiring.n_outputs + 1)])
    if len(ins) != wiring.n_inputs or len(outs) != wiring.n_outputs:
        raise ValueError(f"names: expected {wiring.n_inputs} and {wiring.n_outputs}, given {len(ins)} and {len(outs)}")
    if len({*ins, *outs}) < len(ins) + len(outs):
        raise ValueError("names: inputs and outputs must differ from each other")
    w = [float(value) for value in weights]
    taken = {*ins, *outs}
    signal = {1 + place: name for place, name in enumerate(ins)}
    first_output = wiring.n_nodes - wiring.n_outputs
    for node in range(1 + wiring.n_inputs, wiring.n_nodes):
        name = outs[node - first_output] if node >= first_output else f"n{node}"
        while node < first_output and name in taken:
            name += "_"
        taken.add(name)
        signal[node] = name
    gates = []
    for block in wiring.blocks:
        for receiver, places in zip(block.receivers, block.edges, strict=True):
            pairs = [(w[place], sender) for place, sender in zip(places, block.senders, strict=True)]
            constant = -sum(value for value, sender in pairs if sender == 0)
            known = [(value, signal[sender]) for value, sender in pairs if sender != 0]
            gates.append(neuron_gate(signal[receiver], [v for v, _ in known], [name for _, name in known], constant))
    return LogicCircuit(tuple(ins), {name: name for name in outs}, tuple(gates))


def _identifier(text: str) -> str:
    name = re.sub(r"\W", "_", text, flags=re.ASCII) or "_"
    return name if re.match(r"[A-Za-z_]", name) and name not in KEYWORDS else f"_{name}"


KEYWORDS = {"input", "output", "wire", "module", "endmodule", "assign", "and", "or", "not", "reg", "begin", "end"}
