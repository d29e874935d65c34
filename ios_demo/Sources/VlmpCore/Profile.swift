// A benchmark in the form of runtimes/profile/profile.schema.json.

func profileJSON(
    _ machine: Machine, _ settings: BenchmarkSettings, _ picture: Picture, _ subjects: [Subject],
    _ conditions: [RunCondition], created: String
) -> JSON {
    [
        "schema_version": 1,
        "created": JSON(created),
        "command": "",
        "machine": machineJSON(machine, subjects),
        "settings": [
            "runs": JSON(settings.runs), "decode_tokens": JSON(settings.decodeTokens),
            "threads": settings.threads.map { JSON($0) } ?? .null, "prompt": JSON(settings.prompt),
            "photo": JSON(settings.photo), "photo_size": JSON([picture.width, picture.height]),
        ],
        "warnings": .list(warnings(subjects, conditions).map { JSON($0) }),
        "conditions": .list(conditions.map(conditionJSON)),
        "bundles": .list(subjects.map(bundleJSON)),
    ]
}

private func machineJSON(_ machine: Machine, _ subjects: [Subject]) -> JSON {
    let runtimes = subjects.map { subject -> (String, String) in
        let parts = subject.runtimeName.split(separator: " ", maxSplits: 1).map { String($0) }
        return (parts.first ?? "unknown", parts.last ?? "unknown")
    }
    return [
        "kind": "ios", "name": JSON(machine.name), "os": JSON(machine.os), "cpu": JSON(machine.cpu),
        "cores": JSON(machine.cores), "memory_mib": JSON(machine.memoryMib),
        "runtimes": textsJSON(Dictionary(runtimes) { first, _ in first }), "facts": textsJSON(machine.facts),
    ]
}

private func textsJSON(_ texts: [String: String]) -> JSON {
    .object(texts.sorted { $0.key < $1.key }.map { JSON.Member(name: Array($0.utf8), value: JSON($1)) })
}

private func warnings(_ subjects: [Subject], _ conditions: [RunCondition]) -> [String] {
    var warnings: [String] = []
    if subjects.count > 1 && subjects.contains(where: { !$0.memories.isEmpty }) {
        warnings.append("Memory is that of one process, which ran all bundles: its peak is that of the largest.")
    }
    var hot: [String] = []
    for state in conditions.flatMap({ [$0.before, $0.after] }).compactMap(\.thermalState)
    where state != "nominal" && !hot.contains(state) { hot.append(state) }
    if !hot.isEmpty { warnings.append("The phone was hot: \(hot.joined(separator: ", ")).") }
    return warnings
}

private func conditionJSON(_ run: RunCondition) -> JSON {
    func facts(_ condition: Condition) -> JSON {
        condition.thermalState.map { ["thermal_status": JSON($0)] } ?? [:]
    }
    return [
        "round": JSON(run.round), "bundle": JSON(run.bundle), "waited_s": 0, "before": facts(run.before),
        "after": facts(run.after),
    ]
}

private func bundleJSON(_ subject: Subject) -> JSON {
    let phases = subject.samples.map { phase, ms -> JSON.Member in
        let (low, median, high) = quartiles(ms)
        let figures: JSON = [
            "median_ms": JSON(median), "low_ms": JSON(low), "high_ms": JSON(high),
            "samples_ms": .list(ms.map { JSON($0) }),
        ]
        return JSON.Member(name: Array(phase.utf8), value: figures)
    }
    return [
        "name": JSON(subject.name), "manifest": manifestJSON(subject.manifest), "runtime": JSON(subject.runtimeName),
        "size_mib": JSON(Double(subject.manifest.sizeBytes) / 0x1p20), "phases": .object(phases),
        "prefill_split": "not split: the app asks for no operator's time", "cold_cached_share": .null,
        "memory": subject.memories.isEmpty ? .null : memoryJSON(subject.memories),
    ]
}

private func memoryJSON(_ runs: [RunMemory]) -> JSON {
    func most(_ value: (RunMemory) -> Double) -> JSON { JSON(runs.map(value).max()!) }
    return [
        "libraries_pss_mib": .null, "libraries_rss_mib": JSON(runs[0].before.residentMib), "loaded_pss_mib": .null,
        "loaded_rss_mib": most { $0.loaded.residentMib }, "ran_pss_mib": .null,
        "ran_rss_mib": most { $0.ran.residentMib }, "peak_rss_mib": most { $0.ran.peakMib },
    ]
}

private func manifestJSON(_ manifest: Manifest) -> JSON {
    let pruners = manifest.stages.map(\.pruner).joined(separator: "+")
    let stages: [JSON] = manifest.stages.map {
        [
            "place": JSON($0.place.rawValue), "layer": JSON($0.index), "pruner": JSON($0.pruner),
            "kept_tokens": JSON($0.numKept),
        ]
    }
    return [
        "model": JSON(manifest.model), "checkpoint": JSON(manifest.checkpoint), "target": JSON(manifest.target),
        "precision": JSON(manifest.precision.rawValue), "quantization": JSON(manifest.quantization),
        "image": JSON([manifest.image.height, manifest.image.width]), "text_len": JSON(manifest.prompt.textLen),
        "layers": JSON(manifest.kv.layers.count), "pruner": JSON(pruners.isEmpty ? "none" : pruners),
        "prune_layer": JSON(manifest.pruneLayer), "visual_tokens": JSON(manifest.image.visualTokens),
        "kept_tokens": JSON(manifest.numKept), "stages": .list(stages),
    ]
}

/// Lower quartile, median and upper quartile, with a line drawn between neighbours.
func quartiles(_ samples: [Double]) -> (Double, Double, Double) {
    let sorted = samples.sorted()
    func at(_ share: Double) -> Double {
        let place = share * Double(sorted.count - 1)
        let below = sorted[Int(place)]
        return below + (sorted[min(Int(place) + 1, sorted.count - 1)] - below) * (place - Double(Int(place)))
    }
    return (at(0.25), at(0.5), at(0.75))
}
