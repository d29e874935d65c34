import Foundation
import SwiftUI
import VlmpApp

/// Times both bundles in turns; figures with the thermal state; reports to share.
struct BenchmarkView: View {
    let model: AppModel
    @State private var runs = 5
    @State private var heat = ""

    var body: some View {
        NavigationStack {
            List {
                Section {
                    Stepper("Rounds: \(runs)", value: $runs, in: 1...20)
                    Button("Measure") { model.measure(runs: runs) }
                        .buttonStyle(.borderedProminent)
                        .disabled(!model.canCompare)
                    Text("Thermal state: \(heat)")
                } footer: {
                    Text(
                        "Loads the two bundles of the page Compare anew in each round, in turns, asks once to warm up "
                            + "and once for the figures. Needs a photo.")
                }
                StatusSection(model: model)
                ForEach(model.reports) { report in
                    Section(report.created) {
                        ForEach(report.lines, id: \.self) { line in
                            Text(line).font(.footnote)
                        }
                        ShareLink("Share as JSON", item: report.url)
                        Button("Delete", role: .destructive) { model.delete(report) }
                            .disabled(!model.isIdle)
                            .accessibilityLabel("Delete the report of \(report.created)")
                    }
                }
            }
            .navigationTitle("Benchmark")
        }
        .task { await watchHeat() }
    }

    private func watchHeat() async {
        while !Task.isCancelled {
            heat = ProcessInfo.processInfo.thermalState.word
            try? await Task.sleep(for: .seconds(2))
        }
    }
}
