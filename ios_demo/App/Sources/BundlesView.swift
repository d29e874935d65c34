import SwiftUI
import UniformTypeIdentifiers
import VlmpApp
import VlmpCore

/// The bundles in the app: import, delete.
struct BundlesView: View {
    let model: AppModel
    @State private var importing = false
    @State private var doomed: StoredBundle?
    @State private var asking = false

    var body: some View {
        NavigationStack {
            List {
                Section {
                    Button {
                        importing = true
                    } label: {
                        Label("Import a folder", systemImage: "square.and.arrow.down")
                    }
                    .disabled(!model.isIdle)
                } footer: {
                    Text("A bundle that vlmp-export wrote for Core ML, as a folder in Files.")
                }
                StatusSection(model: model)
                ForEach(model.bundles) { bundle in
                    Section {
                        Text(bundle.name).font(.headline)
                        Text(bundle.facts).font(.footnote)
                        Button("Delete", role: .destructive) {
                            doomed = bundle
                            asking = true
                        }
                        .disabled(!model.isIdle)
                        .accessibilityLabel("Delete \(bundle.name)")
                    }
                }
                ForEach(model.offered, id: \.self) { folder in
                    Section {
                        Text(folder.lastPathComponent).font(.headline)
                        Text("Part of this app, not imported.").font(.footnote)
                        Button("Import") { model.importBundle(folder) }
                            .disabled(!model.isIdle)
                            .accessibilityLabel("Import \(folder.lastPathComponent)")
                    }
                }
            }
            .navigationTitle("Bundles")
        }
        .fileImporter(isPresented: $importing, allowedContentTypes: [.folder]) { result in
            switch result {
            case .success(let folder):
                let opened = folder.startAccessingSecurityScopedResource()
                model.importBundle(folder) { if opened { folder.stopAccessingSecurityScopedResource() } }
            case .failure(let error):
                model.tell("The folder cannot be opened: \(error.localizedDescription)")
            }
        }
        .confirmationDialog(
            "Delete this bundle from the phone?", isPresented: $asking, titleVisibility: .visible
        ) {
            if let bundle = doomed {
                Button("Delete", role: .destructive) { model.delete(bundle) }
            }
        }
    }
}
